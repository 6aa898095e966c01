"""The command; see the package."""

import argparse
import asyncio
import json

from rich.console import Console

from aggregator.local.processes import end_gently
from aggregator.local.screen import Screen
from aggregator.local.workload import Workload
from aggregator.protocol.parameters import Mode
from benchmarks.crowd import job
from benchmarks.crowd.settings import Settings

VALUE_BITS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--mode", choices=(Mode.LATTICE, Mode.PAIRWISE), action="append")
    parser.add_argument("--step-s", type=float, default=120.0)
    asked = parser.parse_args()
    end_gently()
    found = []
    for mode in asked.mode or (Mode.LATTICE, Mode.PAIRWISE):
        load = Workload(mode, asked.clients, asked.entries, VALUE_BITS, 0)
        found.append(asyncio.run(job.run(Settings(load, step_s=asked.step_s), Screen(Console(stderr=True)))))
        print(json.dumps(found[-1]), flush=True)
    whole = all(one["exact"] and one["completed"] == one["honest"] for one in found)
    within = all(one["server_rss_above_idle_bytes"] <= one["rss_bound_bytes"] for one in found)
    raise SystemExit(0 if whole and within else 1)


if __name__ == "__main__":
    main()
