"""How findings look: a mark, the check, a sentence, and what to do; or JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from aggregator.doctor.finding import Finding

_MARKS: Final = {"good": ("✓", "green"), "warning": ("!", "yellow"), "fault": ("✗", "red"), "skipped": ("-", "dim")}
_CHECK_WIDTH: Final = 12


def show(console: Console, finding: "Finding") -> None:
    """One finding on the terminal; its words are data, never markup."""
    mark, style = _MARKS[finding.level]
    line = Text.assemble((mark, style), f" {finding.check:<{_CHECK_WIDTH}}", (finding.says, "dim" * (mark == "-")))
    console.print(line, soft_wrap=True, highlight=False)
    if finding.remedy:
        console.print(Text(f"{'':{_CHECK_WIDTH + 2}}{finding.remedy}", "dim"), soft_wrap=True, highlight=False)


def finish(findings: Iterable["Finding"], *, as_json: bool) -> None:
    """Print one JSON object if asked to, and exit with 1 after any fault."""
    told = [asdict(finding) for finding in findings]
    sound = all(finding["level"] != "fault" for finding in told)
    if as_json:
        typer.echo(json.dumps({"sound": sound, "findings": told}, indent=1))
    raise typer.Exit(0 if sound else 1)
