"""The sums of a task's rounds, for as long as its `Retention` says."""

import asyncio
from collections.abc import Callable
from math import inf

from aggregator.rounds.round import Round
from aggregator.wire.operator_messages import Retention
from aggregator.wire.vocabulary import SumState


class KeptSums:
    """The rounds whose sums are kept.

    Args:
        retention: how many, and how long.
        clock: seconds, monotonic.
        dropped: told of each round whose sum is kept no longer, and why.
    """

    def __init__(
        self, retention: Retention, clock: Callable[[], float], dropped: Callable[[int, SumState], None]
    ) -> None:
        self._dropped = dropped
        self._retention = retention
        self._clock = clock
        self._kept: list[Round] = []  # oldest first
        self._timer: asyncio.TimerHandle | None = None

    @property
    def rule(self) -> str:
        """What is kept, for people."""
        kept = f"the last {self._retention.results} are kept"
        return f"{kept}, for {self._retention.age_s:g} s" if self._retention.age_s else kept

    def keep(self, round_: Round) -> None:
        """One more; the oldest may have to go for it."""
        self._kept.append(round_)
        self.expire()

    def drop(self, round_: Round, state: SumState) -> None:
        """Forget one sum; nothing happens where it is not kept."""
        if round_ in self._kept:
            self._kept.remove(round_)
            round_.drop_sum(state)
            self._dropped(round_.number, state)

    def expire(self) -> None:
        """Drop what is kept no longer, and look again when the next one's time is over."""
        surplus = len(self._kept) - self._retention.results
        for index, round_ in enumerate(tuple(self._kept)):
            if index < surplus or self._left_s(round_) <= 0:
                self.drop(round_, SumState.EXPIRED)
        self.rest()
        if self._kept and self._retention.age_s:
            self._timer = asyncio.get_running_loop().call_later(self._left_s(self._kept[0]), self.expire)

    def rest(self) -> None:
        """Look no more of itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _left_s(self, round_: Round) -> float:
        age_s = self._retention.age_s
        return round_.ended_at + age_s - self._clock() if age_s else inf
