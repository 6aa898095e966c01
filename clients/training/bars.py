"""A training at a site, as progress bars: rounds, and the upload within a round.

with Bars(experiment.rounds) as bars:
    await learn(..., watch=bars)
"""

from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from aggregator.wire.vocabulary import Step
from clients.contribution import Observer
from clients.result import RoundResult
from clients.training.course import Shared
from clients.training.taking_part import SiteWatch


class Bars(SiteWatch, Observer):
    """Draws on stderr; where that is no terminal, a line for each round."""

    def __init__(self, rounds: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._rounds = self._progress.add_task("rounds", total=rounds)
        self._upload = self._progress.add_task("upload", total=None, visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @property
    def observer(self) -> Observer:
        """Itself."""
        return self

    def step(self, name: Step) -> None:
        """The step stands beside the bar."""
        self._progress.update(self._rounds, description=f"rounds ({name.replace('_', ' ')})")

    def sent(self, chunks: int, of: int) -> None:
        """The upload's own bar, in chunks."""
        self._progress.update(self._upload, completed=chunks, total=of, visible=chunks < of)

    def closed(self, shared: Shared, result: RoundResult, means: Mapping[str, float]) -> None:
        """One round further."""
        told = "".join(f", {escape(name)} {mean:.4g}" for name, mean in means.items())
        clipped = f", {result.clipped_entries:,} own entries clipped" if result.clipped_entries else ""
        sites = len(result.participants)
        self._console.print(f"round {shared.closed} closed with {sites} sites{told}{clipped}", highlight=False)
        self._progress.update(self._rounds, completed=shared.closed, description="rounds (training)")

    def caught_up(self, shared: Shared) -> None:
        """One round further, without this site."""
        self._console.print(f"round {shared.closed} closed without this site", highlight=False)
        self._progress.update(self._rounds, completed=shared.closed)

    def aborted(self, reason: str) -> None:
        """Why."""
        self._console.print(f"[yellow]{escape(reason)}[/yellow]; the update waits for the next round")
