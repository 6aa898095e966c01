"""How many times less than its peers does lattice mode cost: server, client, bytes?

    python -m benchmarks.peers.compare      what `make bench-peers` runs; some minutes

Starts flower.py and nvflare_he.py in `.venv-peers` and `sangam bench` here, in turn, the order reversed from round to
round, and compares medians over the rounds, of figures that are medians of a run's own repeats on both sides. What each
peer's figure holds and leaves out, its file says.

Server: CPU seconds of all threads on both sides. Flower's include the dequantisation and one np.save of the mean; ours
end at the decoded integer sum. Client: wall seconds on both sides, key agreement excluded on both. Ours uses all cores,
Flower's mask step is one thread: part of that ratio is the number of this machine's cores.

Most of Flower's server time at 10^6 values is Shamir in plain Python, whatever the entries. The rest has a row of its
own, so that nobody takes the whole for the price of a value.

NOT measured: the network, on either side. The result has the shape of a pytest-benchmark run, for benchmarks.report.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
from pytest_benchmark.utils import get_commit_info

from benchmarks import report

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PEERS_PYTHON = ROOT / ".venv-peers/bin/python"
OURS = [str(Path(sys.executable).with_name("sangam")), "bench", "--repeats", "7"]  # the first ones warm up
BITS, SHARES = 16, 15
SERVER_LEAST, CLIENT_LEAST, BYTES_MOST = 40, 10, 4.05

Figures = dict[str, list[dict[str, Any]]]


def main() -> None:
    arguments = parse()
    if not PEERS_PYTHON.exists():
        sys.exit(f"no {PEERS_PYTHON.relative_to(ROOT)}: `make bench-peers` makes it")
    found = measure(commands(arguments), arguments.rounds)
    run = as_run(found, rows(found, arguments), table(found))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(run, indent=1, default=str))
    print("\n".join(report.section(run)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--dropouts", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="how often each command runs")
    parser.add_argument("--out", type=Path, default=ROOT / "build/peers.json")
    return parser.parse_args()


def commands(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """By name: what to run. Each prints one JSON object as its last line."""
    flower, he = ([str(PEERS_PYTHON), str(HERE / name)] for name in ("flower.py", "nvflare_he.py"))
    found = {"nvflare": [*he, f"--entries={arguments.entries}"]}
    for dropouts in sorted({0, arguments.dropouts}):
        who = [f"--clients={arguments.clients}", f"--dropouts={dropouts}"]
        size = f"--entries={arguments.entries}"
        found[f"ours, {dropouts} dropouts"] = [*OURS, "--mode=lattice", *who, size, f"--bits={BITS}", "--json"]
        found[f"flower, {dropouts} dropouts"] = [*flower, *who, size, f"--shares={SHARES}"]
    return found


def measure(wanted: Mapping[str, Sequence[str]], rounds: int) -> Figures:
    """Every command in turn, `rounds` times; which goes first changes from round to round."""
    found: Figures = {name: [] for name in wanted}
    for number in range(rounds):
        for name in list(wanted)[:: -1 if number % 2 else 1]:
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
            found[name].append(run_json(wanted[name]))
    return found


def run_json(command: Sequence[str]) -> dict[str, Any]:
    """The JSON object that ends the command's output; a failing command ends ours, with its own words."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nexit status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return last_object(done.stdout)


def last_object(output: str) -> dict[str, Any]:
    """The object from the last line on that starts with a brace: one line, or several of indented JSON."""
    at = ("\n" + output).rfind("\n{")
    if at < 0:
        sys.exit(f"no JSON object at the end of:\n{output[-2000:]}")
    found: dict[str, Any] = json.loads(output[at:])
    if found.get("exact") is False:
        sys.exit(f"the sum was wrong, so the time means nothing:\n{output[at:]}")
    return found


def of(found: Figures, name: str, key: str) -> float:
    """Median over the rounds."""
    return median(float(each[key]) for each in found[name])


def rows(found: Figures, arguments: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Question, figure, target."""
    lines: list[tuple[str, str, str]] = []
    for dropouts in sorted({0, arguments.dropouts}):
        lines += server_rows(found, arguments, dropouts)
    name = f"ours, {arguments.dropouts} dropouts"
    ours_s, size = of(found, name, "client_compute_s"), f"{arguments.entries:,} values"
    flower_s = of(found, f"flower, {arguments.dropouts} dropouts", "client_mask_s")
    nvflare_s = of(found, "nvflare", "client_encrypt_s")
    return [
        *lines,
        (f"client compute, Flower's mask step over ours: {size}", ratio(flower_s, ours_s), f"≥ {CLIENT_LEAST}"),
        (f"client compute, NVFlare's encryption over ours: {size}", ratio(nvflare_s, ours_s), ""),
        (
            f"bytes per value, all that a client of ours sends: {size}",
            f"{of(found, name, 'bytes_per_value'):.2f}",
            f"≤ {BYTES_MOST} at 10,000,000",
        ),
    ]


def server_rows(found: Figures, arguments: argparse.Namespace, dropouts: int) -> list[tuple[str, str, str]]:
    survivors = arguments.clients - dropouts
    size = f"{arguments.clients} clients of {arguments.entries:,} values, {dropouts} dropouts"
    ours_s = of(found, f"ours, {dropouts} dropouts", "server_compute_s")
    flower_s = of(found, f"flower, {dropouts} dropouts", "server_cpu_s")
    values_s = of(found, f"flower, {dropouts} dropouts", "server_values_cpu_s")
    nvflare_s = of(found, "nvflare", "server_deserialise_and_add_cpu_s") * survivors
    target = f"≥ {SERVER_LEAST}" if dropouts else ""
    return [
        (f"server compute, Flower's SecAgg+ ({SHARES} shares) over ours: {size}", ratio(flower_s, ours_s), target),
        (f"the same without Flower's recovery of secrets, Shamir in plain Python: {size}", ratio(values_s, ours_s), ""),
        (f"server compute, NVFlare's deserialise and add over ours: {size}", ratio(nvflare_s, ours_s), ""),
    ]


def ratio(theirs_s: float, ours_s: float) -> str:
    return f"{theirs_s / ours_s:.1f} ({theirs_s * 1e3:,.0f} ms over {ours_s * 1e3:,.1f} ms)"


def table(found: Figures) -> list[tuple[str, ...]]:
    """Bytes per value, ours and theirs."""
    named = {
        "ours, lattice": "ours, 0 dropouts",
        "Flower's SecAgg+": "flower, 0 dropouts",
        "NVFlare's CKKS (TenSEAL)": "nvflare",
    }
    each = {label: of(found, name, "bytes_per_value") for label, name in named.items()}
    ours = next(iter(each.values()))
    return [
        ("uploaded by a client", "bytes per value", "over ours"),
        *((label, f"{size:.2f}", f"{size / ours:.1f}") for label, size in each.items()),
    ]


def as_run(found: Figures, lines: list[tuple[str, str, str]], sizes: list[tuple[str, ...]]) -> dict[str, Any]:
    """What pytest-benchmark would have written, as far as it is read, with every command's own figures."""
    packages = {
        name: number
        for each in ("flower, 0 dropouts", "nvflare")
        for name, number in found[each][0]["versions"].items()
    }
    return {
        "machine_info": {**pytest_benchmark_generate_machine_info(), "packages": packages},
        "commit_info": get_commit_info(),
        "datetime": datetime.now(UTC).isoformat(),
        "benchmarks": [{"name": "peers", "extra_info": {"rows": lines, "table": sizes, "found": found}}],
    }


if __name__ == "__main__":
    main()
