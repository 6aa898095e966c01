"""The run's results: tables for people, one line of JSON for programs."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from aggregator.demo.outcome import Outage, Outcome, Round
from aggregator.demo.plan import Exit
from aggregator.wire.vocabulary import HOMOMORPHIC_STEPS, MASKED_STEPS, Step

MARKS = {str(Exit.PROCESS): "†", str(Exit.STREAM): "~"}


def show(console: Console, outcome: Outcome) -> None:
    """Print everything."""
    parts = (_models(outcome), _rounds(outcome), _costs(outcome), _verdict(outcome))
    console.print(Group(*(part for table in parts for part in ("", table))), highlight=False)


def line(outcome: Outcome) -> str:
    """One JSON object on one line."""
    return json.dumps(
        {
            "sites": outcome.sites,
            "rounds": len(outcome.rounds),
            "dropped": outcome.dropped,
            "exact": outcome.exact,
            "auc_federated": outcome.auc_federated,
            "auc_pooled": outcome.auc_pooled,
            "auc_alone": outcome.auc_alone,
            "bytes_per_value": outcome.bytes_per_value,
            "payload_bytes": outcome.payload_bytes,
            "bytes_sent_per_client_round": outcome.sent_bytes,
            "clipped_entries": outcome.clipped_entries,
            "step_seconds": outcome.step_seconds,
            "seconds": outcome.seconds,
            "records": [count for count, _ in outcome.records],
            "malignant": [ill for _, ill in outcome.records],
            "aborted": outcome.aborted,
            "outage": None if outcome.outage is None else asdict(outcome.outage),
            "picture": outcome.picture,
        }
    )


def outage(one: Outage) -> str:
    """The outage in one line."""
    return f"the hub was killed in round {one.round} and went on after {one.seconds:.1f} s"


def _models(outcome: Outcome) -> Table:
    table = _table(f"Area under the ROC curve on {outcome.held_out} held-out patients")
    table.add_column()
    table.add_column("AUC", justify="right")
    table.add_column("trained on", style="dim")
    sizes = [count for count, _ in outcome.records]
    here = f"{min(sizes)} to {max(sizes)} records in each of {outcome.sites} hospitals"
    alone = outcome.auc_alone
    table.add_row("[bold]federated", f"[bold]{outcome.auc_federated:.4f}", here)
    table.add_row("pooled", f"{outcome.auc_pooled:.4f}", f"all {sum(sizes)} records in one place")
    table.add_row("alone, median", f"{median(alone):.4f}", "one hospital's records")
    table.add_row("alone, worst", f"{min(alone):.4f}", "")
    return table


def _rounds(outcome: Outcome) -> Table:
    marks = ", ".join(f"{mark} {what}" for what, mark in MARKS.items())
    table = _table(f"Hospitals that vanished, and where ({marks})", footer=True)
    means = outcome.step_seconds
    table.add_column("round", footer="mean", justify="right")
    for step in _steps(outcome):
        table.add_column(step.replace("_", "\n"), footer=_milliseconds(means.get(step, 0.0)), justify="center")
    table.add_column("in\nsum", justify="right")
    table.add_column("sum\nexact", justify="center")
    table.add_column("ms", footer=_milliseconds(sum(means.values())), justify="right")
    for one in outcome.rounds:
        exact = "[green]✓" if one.exact else "[red]✗"
        cells = _lost_by_step(one, _steps(outcome))
        table.add_row(str(one.number), *cells, str(len(one.participants)), exact, _milliseconds(one.seconds))
    return table


def _steps(outcome: Outcome) -> tuple[Step, ...]:
    """Those of the rounds' mode."""
    homomorphic = any(step in one.step_seconds for one in outcome.rounds for step in HOMOMORPHIC_STEPS)
    return HOMOMORPHIC_STEPS if homomorphic else MASKED_STEPS


def _lost_by_step(one: Round, steps: Iterable[Step]) -> Iterator[str]:
    for step in steps:
        lost = [dropout for dropout in one.dropouts if dropout.step == step]
        yield "[red]" + " ".join(f"{MARKS.get(d.exit, '?')}{d.hospital.rpartition('-')[2]}" for d in lost)


def _costs(outcome: Outcome) -> Table:
    table = _table("What one hospital sends in one round", header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    per_value = f"{outcome.words} words in {outcome.payload_bytes} bytes; float32 takes 4"
    table.add_row("bytes per value", f"{outcome.bytes_per_value:.2f}", per_value)
    rest = "keys, shares, signatures, too: a fixed price"
    table.add_row("bytes in all messages", f"{outcome.sent_bytes:,.0f}", rest)
    return table


def _verdict(outcome: Outcome) -> Text:
    closed, asked = len(outcome.rounds), outcome.rounds_asked
    exact = sum(one.exact for one in outcome.rounds)
    style = "bold green" if outcome.exact else "bold red"
    text = Text(f"{exact} of {asked} sums exact", style)
    text.append(f", word by word, with {outcome.dropped} dropouts, in {outcome.seconds:.1f} s", "default")
    if outcome.outage is not None:
        text.append(f"\n{outage(outcome.outage)}", "default")
    if closed < asked:
        text.append(f"\nAborted: {outcome.aborted}", "bold red")
    if outcome.picture:
        text.append(f"\nPicture: {outcome.picture}", "default")
    return text


def _table(title: str, *, header: bool = True, footer: bool = False) -> Table:
    """A table that fits 80 columns."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=header, show_footer=footer)
    table.box, table.show_edge, table.pad_edge, table.padding = SIMPLE_HEAD, False, False, (0, 1, 0, 0)
    return table


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f}"
