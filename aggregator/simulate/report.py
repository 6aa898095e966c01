"""A simulation's figures: a table for people, one line of JSON for programs."""

import json
from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from aggregator.simulate.outcome import Outcome


def show(console: Console, outcome: Outcome) -> None:
    """Print everything."""
    asked, figures = outcome.settings, outcome.figures()
    title = f"{asked.clients:,} clients, {asked.entries:,} values each, {asked.mode}; {asked.dropouts} vanish"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False)
    table.add_column("all rounds" if asked.rounds > 1 else "one round")
    table.add_column("", justify="right")
    for row in _rows(figures):
        table.add_row(*row)
    console.print("", table, "", highlight=False)
    console.print(_verdict(outcome), highlight=False)
    here = outcome.machine
    where = f"{here.cpu}, {here.cores} cores, {here.system}, Python {here.python}, sangam {here.sangam}"
    console.print(where, highlight=False, style="dim")


def line(outcome: Outcome) -> str:
    """One JSON object on one line."""
    return json.dumps(outcome.figures())


def _verdict(outcome: Outcome) -> str:
    if not outcome.completed:
        return f"[bold red]a round failed[/]: {outcome.rounds[-1].failure}"
    if not outcome.exact:
        return "[bold red]NOT every sum was exact[/]"
    return "[bold green]every sum exact[/], compared word by word with the sum of the survivors' own encodings"


def _rows(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "seconds", f"{figures['seconds']:,.1f}"
    for step, seconds in figures["steps"].items():
        yield f"  {step.replace('_', ' ')}", f"{seconds:,.1f}"
    yield "clients in the sum", f"{figures['survivors']:,}"
    yield "neighbours of each client", f"{figures['degree']:,}"
    yield "shares that recover a secret", f"{figures['threshold']:,}"
    yield "bytes that one client sends", f"{figures['bytes_per_client']:,}"
    if figures["server_peak_rss_bytes"] is not None:
        before, peak = figures["server_before_rss_bytes"], figures["server_peak_rss_bytes"]
        yield "server's memory at most", f"{peak / 2**20:,.0f} MiB"
        yield "  before the round", f"{before / 2**20:,.0f} MiB"
