"""One pipeline, three times: over secure rounds, the same without them, and with all records in one place."""

import asyncio
import json
from time import perf_counter
from typing import TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from aggregator.demo.pipelines.contract import Pipeline
from clients.training import OperatorWatch
from clients.training.course import Shared
from clients.training.history import Line

M = TypeVar("M")


def show(pipeline: Pipeline[M], console: Console, *, as_json: bool) -> int:
    """Run it and say what came of it; 0 if the secure training scores as its twin does.

    Args:
        pipeline: what to run.
        console: for people.
        as_json: whether stdout gets the figures as one JSON object.
    """
    console.print(f"[bold]Sangam[/]: {escape(pipeline.about)}", highlight=False)
    console.print(f"{len(pipeline.sites)} sites: {', '.join(pipeline.sites)}.", highlight=False)
    found = _run(pipeline, console)
    off = abs(found["federated"] - found[pipeline.twin_is])
    ends_well = off <= pipeline.within
    table = Table("", escape(pipeline.scored), box=None)
    for name in ("federated", pipeline.twin_is, "pooled"):
        table.add_row(f"[bold]{name}[/]" if name == "federated" else name, f"{found[name]:.4f}")
    console.print(table)
    verdict = f"[green]as {pipeline.twin_is}[/]" if ends_well else f"[red]not as {pipeline.twin_is}[/]"
    console.print(f"{verdict}: {off:.2g} apart, at most {pipeline.within:g} allowed", highlight=False)
    if as_json:
        found["twin"] = found.pop(pipeline.twin_is)
        typer.echo(json.dumps({**found, "apart": off, "within": pipeline.within, "sites": len(pipeline.sites)}))
    return 0 if ends_well else 1


def _run(pipeline: Pipeline[M], console: Console) -> dict[str, float]:
    start = perf_counter()
    with _Bar(pipeline.rounds, console) as bar:
        federated = asyncio.run(pipeline.federated(bar))
    seconds = perf_counter() - start
    with console.status("the same without secure rounds ..."):
        models = {"federated": federated, pipeline.twin_is: pipeline.twin(), "pooled": pipeline.pooled()}
    return {name: pipeline.score(model) for name, model in models.items()} | {"seconds": round(seconds, 1)}


class _Bar(OperatorWatch):
    """The rounds, and the metrics of the last one."""

    def __init__(self, rounds: int, console: Console) -> None:
        columns = TextColumn("secure rounds"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._progress = Progress(*columns, TextColumn("{task.description}"), console=console)
        self._bar = self._progress.add_task("", total=rounds)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def ended(self, line: Line, shared: Shared) -> None:
        """One further."""
        means = ", ".join(f"{escape(name)} {mean:.4g}" for name, mean in line.metrics.items())
        self._progress.update(self._bar, completed=shared.closed, description=f"{line.sites} sites, {means}")
