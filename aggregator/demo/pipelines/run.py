"""One pipeline, three times: over secure rounds, by plain averaging, and with all records in one place."""

import asyncio
import json
from math import log10
from time import perf_counter
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from aggregator.demo.pipelines.contract import Pipeline
from aggregator.local.trial import plain, try_out
from clients.training import Audience
from clients.training.history import Line

M = TypeVar("M")
VALUE_BITS = 24  # small models: a few bytes more buy a mean that is exact to seven digits


def show(pipeline: Pipeline[M], console: Console, *, as_json: bool) -> int:
    """Run it and say what came of it; 0 if the secure training scores as plain averaging does.

    Args:
        pipeline: what to run.
        console: for people.
        as_json: whether stdout gets the figures as one JSON object.
    """
    console.print(f"[bold]Sangam[/]: {escape(pipeline.about)}", highlight=False)
    console.print(f"{len(pipeline.sites)} sites: {', '.join(pipeline.sites)}.", highlight=False)
    found = _run(pipeline, console)
    off = abs(found["federated"] - found["plain averaging"])
    ends_well = off <= pipeline.within
    table = Table("", escape(pipeline.scored), box=None)
    for name in ("federated", "plain averaging", "pooled"):
        table.add_row(f"[bold]{name}[/]" if name == "federated" else name, f"{found[name]:.4f}")
    console.print(table)
    verdict = "[green]as plain averaging[/]" if ends_well else "[red]not as plain averaging[/]"
    places = max(4, 1 - int(log10(pipeline.within)))
    console.print(f"{verdict}: {off:.{places}f} apart, at most {pipeline.within:g} allowed", highlight=False)
    if as_json:
        typer.echo(json.dumps({**found, "apart": off, "within": pipeline.within, "sites": len(pipeline.sites)}))
    return 0 if ends_well else 1


def _run(pipeline: Pipeline[M], console: Console) -> dict[str, Any]:
    adapter, new, rounds = pipeline.adapter, pipeline.new, pipeline.rounds
    start = perf_counter()
    with _Bar(pipeline.rounds, console) as bar:
        training = try_out(
            adapter,
            new,
            pipeline.trains(),
            rounds=rounds,
            clip=pipeline.clip,
            weight_max=pipeline.weight_max,
            value_bits=VALUE_BITS,
            metrics=pipeline.metrics,
            audience=bar,
        )
        federated = asyncio.run(training)[0]
    seconds = perf_counter() - start
    with console.status("the same without secure rounds ..."):
        twin, pooled = plain(adapter, new, pipeline.trains(), rounds=rounds), pipeline.pooled()
    scores = {"federated": federated, "plain averaging": twin, "pooled": pooled}
    return {name: pipeline.score(model) for name, model in scores.items()} | {"seconds": round(seconds, 1)}


class _Bar(Audience):
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

    def ended(self, line: Line, closed: int) -> None:
        """One further."""
        means = ", ".join(f"{escape(name)} {mean:.4g}" for name, mean in line.metrics.items())
        self._progress.update(self._bar, completed=closed, description=f"{line.sites} sites, {means}")
