"""The operator's part of a training: start round after round, keep the model and what has become of each round.

Whatever is killed, it goes on where it stopped: a round is started under a key made of what is on the disk, so the same
round is never started twice, and rounds that closed meanwhile are fetched.
"""

from collections.abc import Awaitable
from contextlib import aclosing
from hashlib import sha256
from typing import Final, Protocol, TypeVar

from aggregator.errors import MessageError, OutOfTurn, RoundAborted
from aggregator.protocol.context import hash_model
from aggregator.protocol.encoding import Update
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind
from clients.adapters.contract import metrics
from clients.operator import Operator
from clients.result import RoundResult
from clients.training.course import Course, Shared
from clients.training.history import History, Line

KEY_CHARACTERS: Final = 32
FAILURES_MAX: Final = 3

S = TypeVar("S", bound=Shared)


class OperatorWatch(Protocol):
    """Who is told how a training goes at the operator. Who derives from it overrides what it likes."""

    def begins(self, number: int, shared: Shared, failures: int) -> None:
        """A round has started over this model, or is gone on with; so many have failed before it in a row."""
        return

    def happened(self, event: RoundEvent) -> None:
        """Something in the round."""
        return

    def ended(self, line: Line, shared: Shared) -> None:
        """A round has ended, with this model."""
        return


class Nobody(OperatorWatch):
    """Nobody is told."""


async def conduct(
    operator: Operator,
    course: Course[S],
    shared: S,
    history: History,
    *,
    failures_max: int = FAILURES_MAX,
    watch: OperatorWatch | None = None,
) -> S:
    """Run rounds until the training is over; the model. Run by an operator who may start the task's rounds.

    Args:
        operator: its session.
        course: of the training.
        shared: the model as it was kept last.
        history: what has become of earlier rounds.
        failures_max: so many rounds in a row may fail, of those that this call starts.
        watch: is told how it goes.

    Raises:
        RoundAborted: more have failed; call it again to go on.
        StaleModel: sums that are needed are kept no longer.
        SangamError: as `Operator.start_round`, `watch` and `fetch_result`.
    """
    told, failures = watch or Nobody(), 0

    def fetch(base: Update) -> Awaitable[RoundResult]:
        return operator.fetch_result(course.task, base=base)

    newest = shared
    async for newest, result in course.missed(fetch, shared):
        history.add(line := _closed(result, 0.0))
        told.ended(line, newest)
    shared = newest
    while not course.is_over(shared):
        line, closed = await _round(operator, course.task, shared, history, told)
        if any(line.round == known.round for known in history.lines):
            raise MessageError(f"round {line.round} of {course.task} has ended before, and was started again")
        history.add(line)  # first: what the model lacks is fetched after a crash, what the history lacks is not
        if closed is not None:
            shared = course.advance(shared, closed)
            course.keep(shared)
        told.ended(line, shared)
        failures = failures + 1 if line.failed else 0
        if failures > failures_max:
            raise RoundAborted(f"{failures} rounds in a row have failed, the last, {line.round}: {line.failed}")
    return shared


async def _round(
    operator: Operator, task: str, shared: Shared, history: History, watch: OperatorWatch
) -> tuple[Line, RoundResult | None]:
    number = await _started(operator, task, shared, history)
    watch.begins(number, shared, history.failures)
    async with aclosing(operator.watch(task, number)) as events:
        async for event in events:
            watch.happened(event)
            if event.kind == EventKind.FAILED:
                return Line(number, seconds=event.seconds, failed=event.detail), None
            if event.kind == EventKind.CLOSED:
                result = await operator.fetch_result(task, number)
                return _closed(result, event.seconds), result
    raise MessageError(f"round {number} of {task}: its events ended before the round did")


async def _started(operator: Operator, task: str, shared: Shared, history: History) -> int:
    """The round that is to come next, or that runs already."""
    place = f"{shared.round}.{history.failures}".encode()
    key = sha256(hash_model(shared.base) + place).hexdigest()[:KEY_CHARACTERS]
    try:
        return await operator.start_round(task, base=shared.base, key=key)
    except OutOfTurn:  # it was started so long ago that its key counts no longer, or by somebody else
        async for one in operator.rounds(task, page_size=1):
            return one.round
        raise


def _closed(result: RoundResult, seconds: float) -> Line:
    return Line(result.round, len(result.participants), result.total_weight, seconds, metrics(result.mean))
