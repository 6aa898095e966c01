"""The operator's part of a training: start round after round, keep the model and what has become of each round.

Whatever is killed, it goes on where it stopped: a round is started under a key made of what is on the disk, so the same
round is never started twice, and rounds that closed meanwhile are fetched.
"""

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from hashlib import sha256
from typing import Final, Generic, Protocol, TypeVar

from aggregator.errors import MessageError, OutOfTurn, RoundAborted
from aggregator.protocol.context import hash_model
from aggregator.protocol.encoding import Update
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind
from clients.operator import Operator
from clients.result import RoundResult
from clients.training.catching_up import Shared, missed
from clients.training.global_model import metrics
from clients.training.history import History, Line

KEY_CHARACTERS: Final = 32

S = TypeVar("S", bound=Shared)


class Audience(Protocol):
    """Who is told how a training goes. Who derives from it overrides what it likes."""

    def begins(self, number: int, closed: int, failures: int) -> None:
        """A round has started, or is gone on with; so many have closed, and so many have failed since."""
        return

    def happened(self, event: RoundEvent) -> None:
        """Something in the round."""
        return

    def ended(self, line: Line, closed: int) -> None:
        """A round has ended, and so many have closed."""
        return


class Silent(Audience):
    """Nobody is told."""


@dataclass(frozen=True)
class Course(Generic[S]):
    """How a training goes from model to model.

    Args:
        task: whose rounds.
        advance: the model with one more round in it.
        keep: writes it down.
        is_over: whether it needs no further round.
        failures_max: so many rounds in a row may fail.
    """

    task: str
    _: KW_ONLY
    advance: Callable[[S, RoundResult], S]
    keep: Callable[[S], None]
    is_over: Callable[[S], bool]
    failures_max: int = 3


async def conduct(
    operator: Operator, course: Course[S], shared: S, history: History, audience: Audience | None = None
) -> S:
    """Run rounds until the training is over, or one changed nothing; the model. Run by the operator, for a task of its.

    Args:
        operator: who may start the task's rounds.
        course: of the training.
        shared: the model as it was kept last.
        history: what has become of earlier rounds.
        audience: is told how it goes.

    Raises:
        RoundAborted: too many in a row have failed; call it again to go on.
        StaleModel: sums that are needed are kept no longer.
        SangamError: as `Operator.start_round`, `watch` and `fetch_result`.
    """
    told = audience or Silent()

    def fetch(base: Update) -> Awaitable[RoundResult]:
        return operator.fetch_result(course.task, base=base)

    newest = shared
    async for newest, result in missed(fetch, shared, course.advance):
        _keep(course, newest, history, _closed(result, 0.0), told)
    shared, changes = newest, True
    while changes and not course.is_over(shared):
        line, closed = await _round(operator, course.task, shared, history, told)
        before = hash_model(shared.base)
        shared = shared if closed is None else course.advance(shared, closed)
        changes = closed is None or hash_model(shared.base) != before
        _keep(course, shared, history, line, told)
        if history.failures > course.failures_max:
            raise RoundAborted(f"{history.failures} rounds in a row have failed, the last, {line.round}: {line.failed}")
    return shared


def _keep(course: Course[S], shared: S, history: History, line: Line, audience: Audience) -> None:
    """The history first: what the model lacks is fetched after a crash, what the history lacks is not."""
    history.add(line)
    if not line.failed:
        course.keep(shared)
    audience.ended(line, history.closed)


async def _round(
    operator: Operator, task: str, shared: Shared, history: History, audience: Audience
) -> tuple[Line, RoundResult | None]:
    number = await _started(operator, task, shared, history)
    audience.begins(number, history.closed, history.failures)
    async for event in operator.watch(task, number):
        audience.happened(event)
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
    return Line(result.round, len(result.participants), result.total_weight, seconds, metrics(result))
