"""Write the performance section of README.md from one run of the benchmarks.

    python benchmarks/report.py                run all benchmarks, a few minutes
    python benchmarks/report.py --json FILE    take the run that `pytest benchmarks --benchmark-json FILE` made
    python benchmarks/report.py --peers FILE   add the comparison that `make bench-peers` wrote to build/peers.json

Every figure comes from the run: a benchmark puts `rows` (question, figure, target) and, where one row is too little, a
`table` (header first) into its `extra_info`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- performance:begin -->", "<!-- performance:end -->"
PACKAGES = ("numpy", "numba", "cryptography")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--json", type=Path, help="an existing run; without it, the benchmarks run now")
    parser.add_argument("--peers", type=Path, help="a run of benchmarks/peers/compare.py, for a part of its own")
    before, after = around(README)  # before minutes of work, not after
    given = parser.parse_args()
    peers = json.loads(given.peers.read_text()) if given.peers else None
    run = json.loads(given.json.read_text()) if given.json else measure()
    lines = [*section(run), *(["", *section(peers)] if peers else [])]
    README.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]))
    print(f"{README.name}: performance of {source(run)}")


def around(readme: Path) -> tuple[str, str]:
    """What stands before and after the section."""
    before, begin, rest = (readme.read_text() if readme.exists() else "").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{readme.name} has no line {BEGIN} followed by {END}: add both where the figures belong")
    return before, after


def measure() -> dict[str, Any]:
    """Run all benchmarks; their output passes through."""
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "run.json"
        command = [sys.executable, "-m", "pytest", "benchmarks", "-q", f"--benchmark-json={target}"]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            sys.exit(f"the benchmarks failed: {README.name} is as it was")
        run: dict[str, Any] = json.loads(target.read_text())
        return run


def section(run: Mapping[str, Any]) -> list[str]:
    """The section's lines."""
    return [*tables(benchmark["extra_info"] for benchmark in run["benchmarks"]), "", f"Measured: {source(run)}."]


def tables(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """One table of all rows, then the benchmarks' own; Markdown."""
    figures = list(found)
    rows = [row for figure in figures for row in figure.get("rows", ())]
    lines = [*markdown([("question", "figure", "target"), *rows])] if rows else []
    for figure in figures:
        if "table" in figure:
            lines += ["", *markdown(figure["table"])]
    return lines


def source(run: Mapping[str, Any]) -> str:
    """Machine, versions, commit and date."""
    machine, commit = run["machine_info"], run["commit_info"]
    cpu = machine.get("cpu", {})
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"{cpu.get('brand_raw', machine['machine'])}, {cpu.get('count', '?')} cores, "
        f"Python {machine['python_version']}, {packages}; commit {str(commit['id'])[:12]}"
        f"{' with uncommitted changes' if commit['dirty'] else ''}, {run['datetime'][:10]}"
    )


def markdown(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table that also reads well as plain text: header first, first column left, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"| {' | '.join(cells)} |"
        if number == 0:
            yield f"|{'|'.join('-' * (width + 1) + (':' if i else '-') for i, width in enumerate(widths))}|"


if __name__ == "__main__":
    main()
