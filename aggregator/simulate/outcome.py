"""What a simulation came to, and the figures that people and programs read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aggregator.local.machine import Machine
from aggregator.protocol.graph import Degree
from aggregator.simulate.settings import Settings


@dataclass(frozen=True, slots=True)
class RoundOutcome:
    """One round.

    Attributes:
        failure: why it has no sum; empty when it has one.
        exact: whether every word of the sum is the sum of the survivors' words.
        seconds: from its opening until the sum was decoded; `step_s` are their parts.
        survivors: clients in the sum.
        before_bytes: resident in the server's process before the round, `peak_bytes` at most in it; -1 where the
            system does not tell.
        sent_bytes: the most that a survivor sent, in all messages.
    """

    failure: str
    exact: bool
    seconds: float
    step_s: Mapping[str, float]
    survivors: int
    before_bytes: int
    peak_bytes: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """All rounds; a round that failed is the last."""

    settings: Settings
    machine: Machine
    degree: Degree
    rounds: Sequence[RoundOutcome]

    @property
    def completed(self) -> bool:
        """Whether every round that was asked for closed with a sum."""
        return len(self.rounds) == self.settings.rounds and not any(one.failure for one in self.rounds)

    @property
    def exact(self) -> bool:
        """Whether all rounds closed, every sum exact."""
        return self.completed and all(one.exact for one in self.rounds)

    def figures(self) -> dict[str, Any]:
        """By name, in docs/simulate.md."""
        peak = max(one.peak_bytes for one in self.rounds)
        before = self.rounds[0].before_bytes
        return {
            **asdict(self.settings),
            "completed": self.completed,
            "exact": self.exact,
            "failure": self.rounds[-1].failure,
            "seconds": sum(one.seconds for one in self.rounds),
            "steps": dict(sum((Counter(one.step_s) for one in self.rounds), Counter[str]())),
            "survivors": self.rounds[-1].survivors,
            "threshold": self.degree.t,
            "degree": self.degree.k,
            "bytes_per_client": max(one.sent_bytes for one in self.rounds),
            "server_before_rss_bytes": before if before > 0 else None,
            "server_peak_rss_bytes": peak if peak > 0 else None,
            "machine": asdict(self.machine),
        }
