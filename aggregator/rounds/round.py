"""One round of a task: how it stands while it runs, and the little that is kept of it afterwards."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from aggregator.rounds.driver import Driver
from aggregator.rounds.events import EventLog
from aggregator.rounds.phase import Completed
from aggregator.storage.base import RoundRecords
from aggregator.wire.operator_messages import RoundSummary
from aggregator.wire.vocabulary import RoundState, SumState


@dataclass(slots=True, eq=False)
class Round:
    """One round from its start on; what it needs to run is dropped when it ends.

    Attributes:
        number: its number.
        started_s: the wall clock at its start, unix seconds.
        model_hash: of the model that all start from.
        events: what happened in it.
        gathered: how many have come, for as long as it has not opened.
        records: where it is written down.
        driver: who runs it; None before it opens and after its end.
        sum: its sum, for as long as that is kept.
        ended_at: the monotonic clock at its end, seconds.
    """

    number: int
    started_s: float
    model_hash: bytes
    events: EventLog = field(repr=False)
    gathered: Callable[[], int] = field(repr=False)
    records: RoundRecords = field(repr=False)
    driver: Driver | None = field(repr=False, default=None)
    sum: Completed | None = field(repr=False, default=None)
    sum_state: SumState = SumState.NONE
    ended_at: float = 0.0
    _end: RoundSummary | None = None

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet, or not even opened."""
        return self._end is None

    @property
    def is_closed(self) -> bool:
        """Whether it has ended with a sum, kept or not."""
        return self._end is not None and self._end.state == RoundState.CLOSED

    def summary(self) -> RoundSummary:
        """How it stands, or how it ended."""
        if self._end is not None:
            return replace(self._end, result=self.sum_state)
        return self._summary(RoundState.GATHERING if self.driver is None else RoundState.RUNNING)

    def restore_end(self, end: RoundSummary, total: Completed | None, state: SumState, ended_at: float) -> None:
        """It had ended before the server started again."""
        self._end, self.sum, self.sum_state, self.ended_at = end, total, state, ended_at

    def end(self, total: Completed | None, now: float) -> None:
        """It has ended, with a sum or without."""
        end = self._summary(RoundState.FAILED if total is None else RoundState.CLOSED)
        if total is not None:
            size = total.setting.terms.parameters.result_plan.payload_bytes
            end = replace(end, clients=len(total.survivors), result_bytes=size)
            setting = replace(total.setting, roster_bytes=b"")  # megabytes with thousands of sites, and sent no more
            self.sum, self.sum_state = replace(total, setting=setting), SumState.KEPT
        self._end, self.ended_at, self.driver = end, now, None

    def drop_sum(self, state: SumState) -> None:
        """Forget the sum, and say why."""
        self.sum, self.sum_state = None, state

    def _summary(self, state: RoundState) -> RoundSummary:
        last = self.events.end
        return RoundSummary(
            round=self.number,
            state=state,
            step=self.driver.step if self.driver is not None else "",
            clients=self.driver.clients if self.driver is not None else self.gathered(),
            reason=last.detail if last is not None else "",
            started_s=self.started_s,
            seconds=self.events.seconds,
            result=SumState.NONE,
            result_bytes=0,
        )
