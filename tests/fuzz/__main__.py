"""The fuzzers' command; `make fuzz` runs the first form.

python -m tests.fuzz [--inputs N] [--sequences N] [--only TARGET] [--processes N]
python -m tests.fuzz replay TARGET FILE    run one input, without atheris
python -m tests.fuzz keep TARGET FILE...   make inputs cases, which the tests replay
"""

import argparse
import json
import os
import sys
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.fuzz import campaign
from tests.fuzz.registry import NAMES, target
from tests.fuzz.short import CASES


def main() -> int:
    """Parse the command line, and do what it says; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--inputs", type=int, default=200_000, help="for all decoders together")
    parser.add_argument("--sequences", type=int, default=2_000, help="of messages, for the driver")
    parser.add_argument("--only", action="append", choices=NAMES, help="this target; may come again")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="at once")
    commands = parser.add_subparsers(dest="command")
    for name in ("replay", "keep"):
        command = commands.add_parser(name)
        command.add_argument("target", choices=NAMES)
        command.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "replay":
        for file in arguments.files:
            target(arguments.target).run(file.read_bytes())
        return 0
    if arguments.command == "keep":
        _keep(arguments.target, arguments.files)
        return 0
    return _fuzz(arguments)


def _keep(name: str, files: list[Path]) -> None:
    folder = CASES / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        data = file.read_bytes()
        (folder / sha256(data).hexdigest()[:12]).write_bytes(data)


def _fuzz(arguments: argparse.Namespace) -> int:
    targets = [target(name) for name in arguments.only or NAMES]
    shares = campaign.divided(targets, arguments.inputs, arguments.sequences)
    console, start = Console(stderr=True), monotonic()
    with ExitStack() as stack:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        bars = stack.enter_context(Progress(*columns, console=console))
        rows = {share.target.name: bars.add_task(share.target.name, total=share.inputs) for share in shares}
        ended = campaign.run(shares, arguments.processes, lambda name, count: bars.update(rows[name], completed=count))
    crashes = {name: said["crash"] for name, said in ended.items() if said["crash"]}
    for name, where in crashes.items():
        console.print(f"{name}: {where}\n  python -m tests.fuzz replay {name} {where}", markup=False, soft_wrap=True)
    counts = dict.fromkeys((False, True), 0)
    for name, one in ended.items():
        counts[target(name).sequences] += one["inputs"]
    said = {
        "inputs": counts[False],
        "sequences": counts[True],
        "crashes": len(crashes),
        "seconds": round(monotonic() - start, 1),
        "growth_mib_max": campaign.GROWTH_MIB_MAX,
        "targets": ended,
    }
    sys.stdout.write(json.dumps(said) + "\n")
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
