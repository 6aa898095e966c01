"""What benchmarks found, as Markdown: a benchmark puts `rows` (question, figure, target) and, where one row is too
little, a `table` (header first) into its `extra_info`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

PACKAGES = ("numpy", "numba", "cryptography")


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
