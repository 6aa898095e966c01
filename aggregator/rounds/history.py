"""The rounds of one task: the one that runs, and what is kept of those that have ended.

Sums are kept as the task's `Retention` says, the events of the last rounds, and short summaries of many more.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from aggregator.errors import Gone, NotFound
from aggregator.rounds.events import EventLog
from aggregator.rounds.kept_sums import KeptSums
from aggregator.rounds.phase import Completed
from aggregator.rounds.round import Round
from aggregator.storage.base import TaskRecords
from aggregator.wire.operator_messages import Retention, RoundSummary
from aggregator.wire.vocabulary import SumState

ROUNDS_KEPT = 1_000  # summaries, of each task
EVENTS_KEPT = 100_000  # of each task, 17 MB without their details: the last twenty rounds of a thousand clients


class History:
    """The rounds of one task, in order.

    Args:
        task: its name, for errors.
        retention: how many sums are kept, and how long.
        clock: seconds, monotonic.
        records: where the task is written down.
    """

    def __init__(self, task: str, retention: Retention, clock: Callable[[], float], records: TaskRecords) -> None:
        self._records = records
        self._task = task
        self._clock = clock
        self._rounds: dict[int, Round] = {}
        self._sums = KeptSums(retention, clock, records.drop_sum)
        self._logged: deque[Round] = deque()  # ended rounds with their events, oldest first
        self._events = 0  # of those
        self.started = 0
        self.last_closed = 0

    @property
    def running(self) -> Round | None:
        """The round that gathers or runs."""
        last = next(reversed(self._rounds.values()), None)
        return last if last is not None and last.runs else None

    def begin(self, round_: Round) -> None:
        """The next round has started."""
        self._rounds[round_.number] = round_
        self.started += 1
        if len(self._rounds) > ROUNDS_KEPT:
            forgotten = self._rounds.pop(next(iter(self._rounds)))
            self._sums.drop(forgotten, SumState.EXPIRED)
            if not forgotten.events.forgotten:
                self._forget_oldest_events()
            self._records.forget(forgotten.number)

    def end(self, round_: Round, total: Completed | None) -> None:
        """The running round has ended, with a sum or without."""
        round_.end(total, self._clock())
        self._ended(round_)

    def restore(self, rounds: Sequence[Round], started: int) -> None:
        """Go on with the rounds of a server that was started again, oldest first; the last one may run.

        Args:
            rounds: those that are remembered.
            started: how many there ever were.
        """
        self.started = started
        for round_ in rounds:
            self._rounds[round_.number] = round_
            if not round_.runs:
                self._ended(round_)

    def _ended(self, round_: Round) -> None:
        if not round_.events.forgotten:
            self._logged.append(round_)
            self._events += len(round_.events)
        while self._events > EVENTS_KEPT and len(self._logged) > 1:
            self._forget_oldest_events()
        if round_.sum is not None:
            self._sums.keep(round_)
        if round_.is_closed:
            self.last_closed = round_.number

    def find(self, number: int) -> Round:
        """One round.

        Raises:
            NotFound: there never was such a round.
            Gone: it is too long ago.
        """
        self._sums.expire()
        if number in self._rounds:
            return self._rounds[number]
        oldest = next(iter(self._rounds), 0)
        if oldest - (self.started - len(self._rounds)) <= number < oldest:
            raise Gone(f"task {self._task}: round {number} is forgotten, the last {ROUNDS_KEPT:,} are remembered")
        raise NotFound(f"task {self._task} has no round {number}")

    def page(self, size: int, before: int) -> tuple[tuple[RoundSummary, ...], int]:
        """So many rounds before one, newest first; and before which the next page begins, 0 after the last.

        Args:
            size: rounds on the page, from 1.
            before: 0 for the newest.
        """
        self._sums.expire()
        older = (round_ for round_ in reversed(self._rounds.values()) if not before or round_.number < before)
        found = tuple(round_.summary() for round_ in islice(older, size))
        return found, found[-1].round if next(older, None) is not None else 0

    def events(self, number: int) -> EventLog:
        """The events of one round; errors as `find`."""
        events = self.find(number).events
        if events.forgotten:
            raise Gone(f"task {self._task}: the events of round {number} are kept no longer")
        return events

    def result(self, number: int, model_hash: bytes = b"") -> Completed:
        """The sum of one round; 0 is the last that closed, over the model of this hash where there is one.

        Raises:
            NotFound: that round has not closed with a sum, or none has.
            Gone: its sum was deleted, or has expired.
        """
        wanted = number or self._closed_over(model_hash)
        missing = f"task {self._task} has no result of round {wanted}"
        if not wanted or wanted > next(reversed(self._rounds), 0):
            raise NotFound(f"{missing}: there is none yet")
        round_ = self.find(wanted)
        if round_.sum is not None:
            return round_.sum
        match round_.sum_state:
            case SumState.DELETED:
                raise Gone(f"{missing} any more: it was deleted")
            case SumState.LOST:
                raise Gone(f"{missing} any more: this server's disk has damaged it")
            case SumState.EXPIRED:
                raise Gone(f"{missing} any more: it has expired, {self._sums.rule}")
            case _:
                raise NotFound(f"{missing}: the round {'has not ended' if round_.runs else 'failed'}")

    def _closed_over(self, model_hash: bytes) -> int:
        """The number of the last round that closed over a model, over any where there is no hash; 0: there is none."""
        if not model_hash:
            return self.last_closed
        newest = reversed(self._rounds.values())
        return next((one.number for one in newest if one.is_closed and one.model_hash == model_hash), 0)

    def delete_result(self, number: int) -> RoundSummary:
        """Forget the sum of one round; errors as `result`."""
        self.result(number)
        round_ = self.find(number)
        self._sums.drop(round_, SumState.DELETED)
        return round_.summary()

    def close(self) -> None:
        """Nothing expires by itself any more."""
        self._sums.rest()

    def _forget_oldest_events(self) -> None:
        oldest = self._logged.popleft()
        self._events -= len(oldest.events)
        oldest.events.forget()
        self._records.forget_events(oldest.number)
