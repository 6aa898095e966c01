"""A site's part of a training: train, contribute, take over what all sites have made together; round after round.

    model = await learn(session, Torch(), model, train, rounds=20, checkpoint=Path("site/model.npz"))

A process that dies goes on where it stopped. A site that was away fetches what it has missed, as long as the server
keeps it; the first model, and all that comes after it, is the same at all sites to the bit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from aggregator.errors import Cancelled, ParameterError, RoundAborted, StaleModel
from aggregator.protocol.encoding import Update
from clients.adapters.contract import Adapter, Tensors, change
from clients.contribution import Observer
from clients.result import RoundResult
from clients.selection import Selection
from clients.session import Session
from clients.training.catching_up import missed
from clients.training.global_model import GlobalModel, metrics, with_metrics

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Trained(Generic[M]):
    """What a site's own training loop gives back.

    Args:
        model: as it is now.
        records: how many it was trained on; they weigh it, and travel masked.
        metrics: numbers about the model that came in, as means over the records; the task must know their names.
    """

    model: M = field(repr=False)
    records: int = field(repr=False)
    metrics: Mapping[str, float] = field(default_factory=dict, repr=False)


class Watch(Protocol):
    """Who is told how a training goes at this site. Who derives from it overrides what it likes."""

    @property
    def observer(self) -> Observer | None:
        """Who is told of each step of this site's own contribution."""
        return None

    def closed(self, model: GlobalModel, result: RoundResult, means: Mapping[str, float]) -> None:
        """A round has closed over this site's update."""
        return

    def caught_up(self, model: GlobalModel) -> None:
        """A round that closed without this site is in the model."""
        return

    def aborted(self, reason: str) -> None:
        """A round has failed; the same update goes into the next one."""
        return


class Quiet(Watch):
    """Nobody is told."""


async def learn(
    session: Session,
    adapter: Adapter[M],
    model: M,
    train: Callable[[M], Trained[M]],
    *,
    rounds: int,
    checkpoint: Path | None = None,
    selection: Selection | None = None,
    again: str = "",
    watch: Watch | None = None,
) -> M:
    """Take part in a training until so many rounds have closed, or the operator ends the task.

    Args:
        session: of the task.
        adapter: for this kind of model.
        model: the first model, the same at all sites; its numbers are overwritten.
        train: trains on this site's records, in a thread of its own. A round that fails doesn't call it again.
        rounds: how many make the model; those that closed without this site count. A round that changes nothing is the
            last one: no site contributes twice on one model.
        checkpoint: a file for the global model, so that this process may die; by default it must not, for longer than
            the server keeps results.
        selection: which tensors are shared; by default all. The others stay as this site trains them.
        again: why this site contributes once more, each time, where it has answered for a model in a round that then
            failed at its very end: a server that keeps such a sum to itself has two, and two sums with a site more or
            less are that site's update. By default it does not, and the training stops for it.
        watch: who is told.

    Returns:
        The model with the last round in it.

    Raises:
        StaleModel: this site cannot get at the global model by itself: the operator's model file is needed.
        ParameterError: the task keeps its results for its operator, or does not fit the model; or `again` was needed.
        Equivocation: as `Session.contribute`.
        Disconnected: the line stayed broken for longer than the session's patience.
    """
    chosen, told = selection or Selection(), watch or Quiet()
    first = GlobalModel(chosen.of(adapter.flatten(model)), adapter.combine)
    shared = first.found_at(checkpoint) if checkpoint else first
    shared = await _caught_up(session, shared, checkpoint, told)
    while shared.closed < rounds:
        model = _with(adapter, model, shared)
        trained = await asyncio.to_thread(train, model)
        after = chosen.of(adapter.flatten(trained.model))
        update = change(shared.combine, shared.tensors, after, trained.records)
        offer = _Offer(with_metrics(update, trained.metrics), trained.records, again)
        try:
            result = await _contributed(session, shared, offer, told)
        except StaleModel:
            before, shared = shared, await _caught_up(session, shared, checkpoint, told)
            if shared is before:
                raise
            continue
        except Cancelled:  # the training is over, perhaps without this site in its last rounds
            shared = await _caught_up(session, shared, checkpoint, told)
            break
        before, shared = shared, _kept(shared.advanced(result), checkpoint)
        told.closed(shared, result, metrics(result))
        model = trained.model
        if shared.digest == before.digest:
            break
    return _with(adapter, model, shared)


@dataclass(frozen=True, slots=True)
class _Offer:
    update: Tensors = field(repr=False)
    records: int = field(repr=False)
    again: str


async def _contributed(session: Session, shared: GlobalModel, offer: _Offer, watch: Watch) -> RoundResult:
    """Contribute to round after round until one closes."""
    while True:
        try:
            result = await session.contribute(
                offer.update, weight=offer.records, base=shared.tensors, again=offer.again, observer=watch.observer
            )
        except RoundAborted as error:
            watch.aborted(str(error))
            continue
        if result is None:
            raise ParameterError(f"task {session.task} keeps its results for its operator: no site can train on them")
        return result


async def _caught_up(session: Session, shared: GlobalModel, checkpoint: Path | None, watch: Watch) -> GlobalModel:
    newest = shared

    def fetch(base: Update) -> Awaitable[RoundResult]:
        return session.fetch_result(base=base)

    async for newest, _ in missed(fetch, shared, GlobalModel.advanced):
        watch.caught_up(_kept(newest, checkpoint))
    return newest


def _kept(shared: GlobalModel, checkpoint: Path | None) -> GlobalModel:
    if checkpoint is not None:
        shared.save(checkpoint)
    return shared


def _with(adapter: Adapter[M], model: M, shared: GlobalModel) -> M:
    """What is not shared stays as the model has it."""
    return adapter.unflatten(model, {**adapter.flatten(model), **shared.tensors})
