"""What is on the terminal while the demo runs: a spinner for what takes a while, then one bar for the rounds."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from aggregator.wire.messages import RoundEvent
from aggregator.wire.vocabulary import EventKind

LOST = {EventKind.DROPPED, EventKind.WITHDREW}
BETWEEN = "hospitals train"


class Screen:
    """Lines and a bar on one console (stderr: results alone go to stdout)."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def stage(self, what: str) -> Iterator[None]:
        """A spinner while something is prepared, a ticked line when it is done."""
        start = perf_counter()
        with self.console.status(f"{what} ..."):
            yield
        self._done(what, start)

    @contextmanager
    def rounds(self, count: int) -> Iterator["Bar"]:
        """A bar for that many rounds."""
        start = perf_counter()
        columns = (
            SpinnerColumn(),
            TextColumn("rounds"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[step]:<17} {task.fields[lost]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield Bar(progress, count)
        self._done("training", start)

    def log(self, name: str, text: str) -> None:
        """The end of a process's log, when something failed."""
        if text:
            self.console.print(f"[bold]{name}[/] wrote last:\n{escape(text)}", highlight=False)

    def _done(self, what: str, start: float) -> None:
        self.console.print(f"[green]✓[/] {what} [dim]{perf_counter() - start:.1f} s[/]", highlight=False)


class Bar:
    """The bar; told of every event of every round."""

    def __init__(self, progress: Progress, count: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=count, step=BETWEEN, lost="")
        self._lost: list[str] = []

    def show(self, event: RoundEvent) -> None:
        """One event of the running round."""
        match event.kind:
            case EventKind.STEP:
                self._progress.update(self._task, step=event.step)
            case kind if kind in LOST:
                self._lost.append(event.client.rpartition("-")[2])
                self._progress.update(self._task, lost="[red]lost " + " ".join(self._lost))
            case EventKind.CLOSED:
                self._lost.clear()
                self._progress.update(self._task, advance=1, step=BETWEEN, lost="")
