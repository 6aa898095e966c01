"""What is on the terminal while a long job runs: a spinner for what takes a while, a bar for what repeats."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


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
    def bar(self, unit: str, count: int, done: str) -> Iterator["Bar"]:
        """A bar for `count` times `unit`; afterwards a ticked line with `done`."""
        start = perf_counter()
        columns = (
            SpinnerColumn(),
            TextColumn(unit),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield Bar(progress, count)
        self._done(done, start)

    def log(self, name: str, text: str) -> None:
        """The end of a process's log, when something failed."""
        if text:
            self.console.print(f"[bold]{name}[/] wrote last:\n{escape(text)}", highlight=False)

    def _done(self, what: str, start: float) -> None:
        self.console.print(f"[green]✓[/] {what} [dim]{perf_counter() - start:.1f} s[/]", highlight=False)


class Bar:
    """A bar, and beside it what is going on."""

    def __init__(self, progress: Progress, count: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=count)

    def say(self, text: str) -> None:
        """What is going on now."""
        self._progress.update(self._task, description=text)

    def advance(self) -> None:
        """One more is done."""
        self._progress.update(self._task, advance=1)
