"""A site's part of any training: contribute, take over what all sites have made together; round after round."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from aggregator.errors import Cancelled, ParameterError, RoundAborted, StaleModel
from aggregator.protocol.encoding import Update
from clients.adapters.contract import metrics
from clients.contribution import Observer
from clients.result import RoundResult
from clients.session import Session
from clients.training.course import Course, Shared

S = TypeVar("S", bound=Shared)


@dataclass(frozen=True, slots=True)
class Input:
    """What a site contributes to one round.

    Args:
        update: arrays by tensor name.
        weight: how much it counts.
    """

    update: Update = field(repr=False)
    weight: int = field(repr=False)


class SiteWatch(Protocol):
    """Who is told how a training goes at a site. Who derives from it overrides what it likes."""

    @property
    def observer(self) -> Observer | None:
        """Who is told of each step of this site's own contribution."""
        return None

    def closed(self, shared: Shared, result: RoundResult, means: Mapping[str, float]) -> None:
        """A round has closed over this site's input."""
        return

    def caught_up(self, shared: Shared) -> None:
        """A round that closed without this site is in the model."""
        return

    def aborted(self, reason: str) -> None:
        """A round has failed; the same input goes into the next one."""
        return


class Nobody(SiteWatch):
    """Nobody is told."""


@dataclass(frozen=True)
class Part(Generic[S]):
    """A site in a training.

    Args:
        session: of the task.
        course: of the training.
        prepare: what this site contributes from where the model stands; runs in a thread of its own.
        again: why this site contributes once more on the model where it stands at first, having answered for it in a
            round that then failed at its very end; empty: it does not. It counts for one round.
        watch: who is told.
    """

    session: Session
    course: Course[S]
    prepare: Callable[[S], Input]
    again: str = ""
    watch: SiteWatch = field(default_factory=Nobody)

    async def take(self, shared: S) -> S:
        """Take part until the training is over, or the operator has ended the task; the model then. Run by a site.

        Raises:
            StaleModel: this site cannot get at the model by itself.
            ParameterError: the task keeps its results for its operator, or does not fit the input; or `again` was
                needed.
            SangamError: as `Session.contribute`.
        """
        shared, again = await self._caught_up(shared), self.again
        while not self.course.is_over(shared):
            given = await asyncio.to_thread(self.prepare, shared)
            try:
                result, again = await self._contributed(shared, given, again), ""
            except (Cancelled, StaleModel) as error:  # perhaps rounds closed without this site, and the last one, too
                before, shared = shared.round, await self._caught_up(shared)
                if isinstance(error, Cancelled):
                    break
                if shared.round == before:
                    raise
                continue
            shared = self.course.advance(shared, result)
            self.course.keep(shared)
            self.watch.closed(shared, result, metrics(result.mean))
        return shared

    async def _contributed(self, shared: S, given: Input, again: str) -> RoundResult:
        """Contribute to round after round until one closes."""
        while True:
            try:
                result = await self.session.contribute(
                    given.update,
                    weight=given.weight,
                    base=shared.base,
                    again=again,
                    observer=self.watch.observer,
                    parameters=self.course.parameters,
                )
            except RoundAborted as error:
                self.watch.aborted(str(error))
                again = ""
                continue
            if result is None:
                raise ParameterError(f"task {self.course.task} keeps its results for its operator: none can go on")
            return result

    async def _caught_up(self, shared: S) -> S:
        def fetch(base: Update) -> Awaitable[RoundResult]:
            return self.session.fetch_result(base=base)

        newest = shared
        async for newest, _ in self.course.missed(fetch, shared):
            self.watch.caught_up(newest)
        return newest
