"""A run's figures: a table for people, one line of JSON for programs."""

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from aggregator.bench.outcome import SETUP, Outcome
from aggregator.bench.settings import FLOAT32_BYTES
from aggregator.wire.vocabulary import Step

Row: TypeAlias = tuple[str, str, str, str]

ENDING = (Step.CONSISTENCY_CHECK, Step.UNMASKING, Step.AUDIT, Step.DECRYPT)

COMPARED = (
    "Both sides ran in turn in one server process, over the same mutual TLS connections, with the same staging and "
    "clients; payloads were made before the start signal, and who vanishes has sent half of its chunks. "
    "docs/bench.md explains every row."
)
SHOWN_FROM = 0.02
"""Parts of the server's CPU seconds below this fraction are in the JSON only."""


def show(console: Console, outcome: Outcome) -> None:
    """Print everything."""
    figures, asked = outcome.figures(), outcome.settings
    title = f"{asked.clients} clients, {asked.entries:,} values each, {asked.dropouts} vanish"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.show_edge, table.pad_edge, table.padding = False, False, (0, 1, 0, 0)
    table.add_column("median of " + str(asked.repeats))
    for name in ("plain float32", asked.mode if outcome.secure else ""):
        table.add_column(name, justify="right")
    table.add_column(style="dim")
    for row in _rows(figures, secure=bool(outcome.secure)):
        table.add_row(*row)
    console.print("", table, "", highlight=False)
    rounds = len(outcome.plain) + len(outcome.secure) + len(outcome.durable)
    verdict = f"[bold green]all {rounds} sums exact[/]" if outcome.exact else "[bold red]NOT every sum was exact[/]"
    console.print(f"{verdict}, compared value by value and word by word")
    if outcome.secure:
        console.print(COMPARED, highlight=False, style="dim")
    here = outcome.machine
    commit = f", commit {here.commit}" if here.commit else ""
    where = f"{here.cpu}, {here.cores} cores, {here.system}, Python {here.python}, sangam {here.sangam}{commit}"
    console.print(where, highlight=False, style="dim")


def line(outcome: Outcome) -> str:
    """One JSON object on one line."""
    return json.dumps(outcome.figures())


def _rows(figures: dict[str, Any], *, secure: bool) -> Iterator[Row]:
    ratio = f"{figures['stream_ratio']:.2f} times the plain sum's" if secure else ""
    plain, masked = figures["plain_stream_s"], figures["secure_stream_s"]
    yield "first byte to sum", _seconds(plain), _seconds(masked), ratio
    if secure:
        yield "  behind the last upload", "", _seconds(figures["end_of_round_s"]), ""
        yield from _steps(figures, ENDING)
        yield "key phases before", "", _seconds(figures["setup_s"]), "with the clients' quantisation"
        yield from _steps(figures, SETUP)
    plain, masked = figures["plain_compute_s"], figures["server_compute_s"]
    yield "server's own CPU", _seconds(plain), _seconds(masked), "without gRPC"
    for part, spent in figures["server_compute_parts_s"].items():
        if part.split(" ")[0] not in SETUP and spent >= SHOWN_FROM * masked:
            yield f"  {part.replace('_', ' ')}", "", _seconds(spent), ""
    if secure:
        yield (
            "one client's work",
            "",
            _seconds(figures["client_compute_s"]),
            "quantise and blind, or encrypt, alone, on all cores",
        )
    if "durable_s" in figures:
        yield from _durability(figures)
    sent = figures["bytes_per_value"]
    yield "bytes per value", f"{FLOAT32_BYTES:.2f}", f"{sent:.2f}" if secure else "", "all that one client sends"
    plain, masked = figures["plain_peak_rss_bytes"], figures["server_peak_rss_bytes"]
    idle = figures["server_idle_rss_bytes"]
    yield "server's peak memory", _mebibytes(plain), _mebibytes(masked), f"above the idle server's {_mebibytes(idle)}"


def _durability(figures: dict[str, Any]) -> Iterator[Row]:
    """What it costs that nothing is forgotten."""
    for name, key in (("written down, to sum", "durable"), ("  with the key phases", "durable_round")):
        yield name, "", _seconds(figures[f"{key}_s"]), f"{figures[f'{key}_ratio']:.2f} times without"
    if figures["disk_bound_s"] is not None:
        verdict = "sustains it" if figures["disk_sustains"] else "does not sustain it"
        yield "  the disk alone", "", _seconds(figures["disk_bound_s"]), verdict


def _steps(figures: dict[str, Any], steps: tuple[Step, ...]) -> Iterator[Row]:
    for step in (step for step in steps if step in figures["step_s"]):
        yield f"    {step.replace('_', ' ')}", "", _seconds(figures["step_s"][step]), ""


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{1000 * seconds:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def _mebibytes(size: float | None) -> str:
    return "" if size is None else f"{size / 2**20:,.0f} MiB"
