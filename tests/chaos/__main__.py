"""python -m tests.chaos --kills 50 --seed 7"""

import argparse
import asyncio
import gc
import secrets
import sys

from rich.console import Console

from aggregator.local.processes import end_gently
from aggregator.local.screen import Screen
from tests.chaos.run import Settings, run

INTERRUPTED = 130


def main() -> int:
    """The exit status: 0 if all was as it must be."""
    words = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    words.add_argument("--kills", type=int, default=50, help="how many processes to kill")
    words.add_argument("--seed", type=int, default=None, help="of all that is drawn; by default a new one")
    words.add_argument("--sites", type=int, default=10, help="how many sites")
    words.add_argument("--between-s", type=float, default=1.0, help="mean seconds between two faults")
    words.add_argument("--no-mount", dest="mounts", action="store_false", help="limit file sizes to fill the disk")
    said = words.parse_args()
    seed = secrets.randbelow(1 << 32) if said.seed is None else said.seed
    gc.freeze()
    end_gently()
    try:
        settings = Settings(said.kills, seed, said.sites, said.between_s, said.mounts)
        tally, line = asyncio.run(run(settings, Screen(Console(stderr=True))))
    except KeyboardInterrupt:
        return INTERRUPTED
    sys.stdout.write(f"{line}\n")
    return 0 if tally.passed else 1


if __name__ == "__main__":
    sys.exit(main())
