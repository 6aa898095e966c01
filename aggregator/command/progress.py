"""A round as it happens: lines where output is kept, a table that moves where somebody looks on, JSON for programs."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from aggregator.command.listing import as_line
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind, Step

NOTES_SHOWN = 8


@contextmanager
def following(console: Console, *, as_json: bool = False) -> Iterator[Callable[[RoundEvent], None]]:
    """What to do with each event of a round; people see it on `console`, programs on stdout."""
    if as_json:
        yield lambda event: typer.echo(as_line(event))
    elif console.is_terminal:
        board = Board(monotonic)
        with Live(board, console=console, refresh_per_second=4):
            yield board.take
    else:
        yield lambda event: console.print(sentence(event), highlight=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a round is: its step ("gathering" before the first), how many have answered in it of how many, how many
    sites it has gone on without, and how long it has taken, seconds.
    """

    step: str
    answered: int
    of: int
    dropouts: int
    seconds: float


class Board:
    """The steps of one round with how many sites have answered, and what was remarkable; a rich renderable.

    Args:
        clock: seconds, monotonic; events that come late, as after a broken line, are not older than they say.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start = clock()  # of the round, on this clock
        self._ended_s = 0.0
        self._began: dict[str, RoundEvent] = {}  # by step
        self._answered: Counter[str] = Counter()
        self._notes: list[RoundEvent] = []

    def take(self, event: RoundEvent) -> None:
        """Note one event."""
        self._start = min(self._start, self._clock() - event.seconds)
        if event.kind in {EventKind.CLOSED, EventKind.FAILED}:
            self._ended_s = event.seconds
        match event.kind:
            case EventKind.GATHERING | EventKind.STEP:
                self._began[event.step or "gathering"] = event
            case EventKind.ANSWERED:
                self._answered[event.step] += 1
            case _:
                self._notes.append(event)

    @property
    def standing(self) -> Standing | None:
        """Where the round is; None before its first event has come."""
        if not self._began:
            return None
        step, event = next(reversed(self._began.items()))
        dropouts = sum(note.kind in {EventKind.DROPPED, EventKind.WITHDREW} for note in self._notes)
        seconds = self._ended_s or self._clock() - self._start
        return Standing(step, self._answered[step], event.clients, dropouts, seconds)

    def __rich__(self) -> Table:
        page = Table.grid()
        page.add_row(self._steps())
        for event in self._notes[-NOTES_SHOWN:]:
            page.add_row(Text.from_markup(sentence(event)))
        return page

    def _steps(self) -> Table:
        table = Table("step", "answered", "of", "began", "took", box=None)
        begun = [step for step in ("gathering", *Step) if step in self._began]
        for place, step in enumerate(begun):
            event = self._began[step]
            ended = begun[place + 1 :]
            until = self._began[ended[0]].seconds if ended else self._ended_s or self._clock() - self._start
            took = f"{until - event.seconds:.1f} s"
            answered = str(self._answered[step]) if step != "gathering" else ""
            name = Text(step.replace("_", " "), style="" if ended else "bold")
            table.add_row(name, answered, str(event.clients), f"{event.seconds:.1f} s", took)
        return table


def sentence(event: RoundEvent) -> str:
    """One event as a line of rich markup."""
    step = event.step.replace("_", " ")
    match event.kind:
        case EventKind.GATHERING:
            awaited = [f"{event.clients} sites"] * (event.clients > 0) + [escape(event.detail)] * bool(event.detail)
            text = f"[bold]gathering[/bold]: {' and '.join(awaited)} awaited"
        case EventKind.STEP:
            text = f"[bold]{step}[/bold]: {event.clients} sites"
        case EventKind.RESUMED:
            text = f"[yellow]resumed[/yellow] in {step or 'gathering'}: the server was started again"
        case EventKind.CLOSED:
            text = f"[green]closed[/green] with {event.clients} sites"
        case EventKind.FAILED:
            text = f"[red]failed[/red]: {escape(event.detail)}"
        case _:
            text = escape(f"  {event.client} {event.kind} {event.detail}".rstrip())
    return f"[dim]{event.seconds:8.2f} s[/dim]  {text}"
