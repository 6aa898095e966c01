"""What the aggregator says of tasks, rounds and sites, as a table for people or as JSON for programs."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from aggregator.crypto.certificates import stamp
from aggregator.wire.vocabulary import SumState

if TYPE_CHECKING:
    from aggregator.wire.operator_messages import RoundSummary, SiteSummary, TaskSummary

NOTHING: Final = "-"

TASK_COLUMNS: Final[Mapping[str, Callable[["TaskSummary"], str]]] = {
    "task": lambda task: task.name,
    "state": lambda task: task.state,
    "owner": lambda task: task.owner,
    "mode": lambda task: task.mode,
    "words": lambda task: f"{task.entries:,}",
    "rounds": lambda task: str(task.rounds),
    "running": lambda task: str(task.running_round or NOTHING),
    "last result": lambda task: str(task.last_round or NOTHING),
    "connected": lambda task: str(task.connected),
    "created": lambda task: moment(task.created_s),
}
ROUND_COLUMNS: Final[Mapping[str, Callable[["RoundSummary"], str]]] = {
    "round": lambda one: str(one.round),
    "state": lambda one: one.state,
    "step": lambda one: one.step.replace("_", " ") or NOTHING,
    "sites": lambda one: str(one.clients),
    "started": lambda one: moment(one.started_s),
    "seconds": lambda one: f"{one.seconds:.1f}",
    "result": lambda one: one.result + (f", {decimal(one.result_bytes)}" if one.result == SumState.KEPT else ""),
    "why": lambda one: one.reason,
}
SITE_COLUMNS: Final[Mapping[str, Callable[["SiteSummary"], str]]] = {
    "site": lambda site: site.name,
    "connected": lambda site: f"{site.connected} tasks" if site.connected else NOTHING,
    "certificate ends": lambda site: moment(site.expires_s),
    "serial": lambda site: f"0x{site.serial}",
    "revoked": lambda site: "revoked" if site.revoked else "",
}


def show(rows: Iterable[Any], columns: Mapping[str, Callable[[Any], str]], *, as_json: bool) -> None:
    """Print rows of one kind on stdout; what others named is never taken for markup."""
    if as_json:
        for row in rows:
            typer.echo(as_line(row))
        return
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(Text(cell(row)) for cell in columns.values()))
    Console().print(table)


def show_one(row: Any, columns: Mapping[str, Callable[[Any], str]], *, as_json: bool) -> None:
    """Print one row, a line for each column."""
    if as_json:
        typer.echo(as_line(row))
        return
    table = Table(box=None, show_header=False)
    for name, cell in columns.items():
        table.add_row(Text(name, style="dim"), Text(cell(row)))
    Console().print(table)


def as_line(value: Any) -> str:
    """One message as one line of JSON, with the names of its fields."""
    return json.dumps(asdict(value))


def moment(seconds: float) -> str:
    """Seconds since 1970 for people."""
    return stamp(datetime.fromtimestamp(seconds, UTC))
