"""The same Flower app with Flower's own SecAgg+ and with the drop-in: seconds of the whole process, bytes that leave.

    python -m benchmarks.peers.flower_app      what `make bench-flower` runs, in `.venv-flower`; some ten minutes

Starts flower_app_side.py for each side in turn, the order reversed from round to round, and compares medians. A run is
a process from its start to its exit: interpreter, imports, Ray, all rounds, and for ours the consortium's keys and the
server. Most of it is Ray's start, so a round that is not the first has a figure of its own. `plain` is the same app
without any secure aggregation. Bytes come from a run of their own, which isn't timed.

Flower: its example's configuration, 3 shares of which 2 recover a secret, and its defaults. Ours: all nodes are
neighbours, 16 bits a value; with `--bits 22` as many as SecAgg+ has.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from aggregator.local import machine

ROOT = Path(__file__).parents[2]
SIDES = ("plain", "secaggplus", "sangam")
BYTES_MOST = 0.55


def main() -> None:
    arguments = parse()
    counted = {side: run(side, arguments, "--count")[0] for side in SIDES}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    each_s: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(arguments.repeats):
        for side in SIDES[:: -1 if number % 2 else 1]:
            print(f"round {number + 1} of {arguments.repeats}: {side}", file=sys.stderr)
            said, took = run(side, arguments)
            seconds[side].append(took)
            each_s[side] += said["round_s"]
    found = {side: {**counted[side], "seconds": seconds[side], "round_s": each_s[side]} for side in SIDES}
    versions = {name: version(name) for name in ("flwr", "ray", "numpy")}
    where = asdict(asyncio.run(machine.this()))
    print("\n".join(table(found, arguments)))
    print(json.dumps({"found": found, "versions": versions, "machine": where}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Last line of stdout: JSON."
    )
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20, help="of the app")
    parser.add_argument("--repeats", type=int, default=3, help="how often each side is timed")
    parser.add_argument("--bits", type=int, default=16, help="of one value of ours")
    return parser.parse_args()


def run(side: str, arguments: argparse.Namespace, *more: str) -> tuple[dict[str, Any], float]:
    """What a side says, and how many seconds its process took."""
    sizes = [f"--{name}={getattr(arguments, name)}" for name in ("clients", "entries", "rounds", "bits")]
    command = [sys.executable, "-m", "benchmarks.peers.flower_app_side", side, *sizes, *more]
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    took = time.perf_counter() - begin
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"side"')]
    if done.returncode or not lines:
        sys.exit(f"{' '.join(command)}\nexit status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(lines[-1])
    if not said["exact"]:
        sys.exit(f"the mean was wrong, so the time means nothing: {said}")
    return said, took


def table(found: dict[str, Any], arguments: argparse.Namespace) -> list[str]:
    """One row a side, and the two ratios."""
    values = arguments.clients * arguments.entries * arguments.rounds
    title = f"{arguments.clients} nodes, {arguments.entries:,} values, {arguments.rounds} rounds"
    lines = [
        f"{title:<40} {'seconds':>8} {'spread':>13} {'a round':>8} {'bytes sent':>14} {'a value':>8} {'off by':>7}"
    ]
    for side, one in found.items():
        seconds, sent = one["seconds"], one["sent_bytes"]
        spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
        times = f"{median(seconds):>8.1f} {spread:>13} {median(one['round_s']):>8.2f}"
        lines.append(f"{side:<40} {times} {sent:>14,} {sent / values:>8.2f} {one['worst_error']:>7.0e}")
    ours, theirs = found["sangam"], found["secaggplus"]
    whole, each = (median(ours[what]) / median(theirs[what]) for what in ("seconds", "round_s"))
    lines += [
        f"ours over SecAgg+: whole process {whole:.2f}, a round {each:.2f} (target < 1); "
        f"bytes {ours['sent_bytes'] / theirs['sent_bytes']:.2f} (target <= {BYTES_MOST})",
    ]
    return lines


if __name__ == "__main__":
    main()
