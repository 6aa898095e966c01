"""Write the performance section of README.md, and its plot, from one run of the benchmarks.

    python -m benchmarks                run all benchmarks, some minutes
    python -m benchmarks --json FILE    take the run that `pytest benchmarks --benchmark-json FILE` made
    python -m benchmarks --peers FILE   add the comparison that `make bench-peers` wrote to build/peers.json

Every figure comes from the run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.report import section, source

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PLOT = ROOT / "docs" / "performance.png"
BEGIN, END = "<!-- performance:begin -->", "<!-- performance:end -->"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--json", type=Path, help="an existing run; without it, the benchmarks run now")
    parser.add_argument("--peers", type=Path, help="a run of benchmarks/peers/compare.py, for a part of its own")
    before, after = around(README)  # before minutes of work, not after
    given = parser.parse_args()
    peers = json.loads(given.peers.read_text()) if given.peers else None
    run = json.loads(given.json.read_text()) if given.json else measure()
    lines = [*section(run), *(["", *section(peers)] if peers else [])]
    plot.draw(run, f"Measured: {source(run)}", PLOT)
    picture = f"![Time by length]({PLOT.relative_to(ROOT)})"
    README.write_text("\n".join([before + BEGIN, "", picture, "", *lines, "", END + after]))
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


if __name__ == "__main__":
    main()
