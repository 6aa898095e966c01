"""What a demo run found, round by round; the report and the JSON line read it."""

from collections.abc import Mapping
from dataclasses import dataclass

UNPLANNED = "unplanned"


@dataclass(frozen=True, slots=True)
class Dropout:
    """One hospital that the server lost: in which step, and how the plan made it vanish."""

    hospital: str
    step: str
    exit: str


@dataclass(frozen=True, slots=True)
class Round:
    """One closed round.

    Attributes:
        number: from 1.
        dropouts: whom the server lost, by its own events.
        participants: names of the hospitals in the sum.
        exact: whether every word of the sum equals the plain sum of the participants' encoded words.
        step_seconds: how long the server was in each step, in order.
    """

    number: int
    dropouts: tuple[Dropout, ...]
    participants: tuple[str, ...]
    exact: bool
    step_seconds: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """From opening to closing."""
        return sum(self.step_seconds.values())


@dataclass(frozen=True, slots=True)
class Outage:
    """The hub was killed in `round`, and `seconds` later the round went on."""

    round: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The whole run.

    Attributes:
        sites: hospitals.
        rounds_asked: how many rounds were to be run.
        rounds: those that closed.
        aborted: why the next one did not; empty when all closed.
        records: of each hospital, how many records and how many of them malignant.
        held_out: patients kept for the comparison.
        auc_federated, auc_pooled: on these; auc_alone: each hospital by itself, with as many steps.
        words: L, of one vector; payload_bytes: its size when packed.
        sent_bytes: mean of all messages that a hospital sent in a round that it stayed in.
        clipped_entries: over all hospitals and rounds.
        seconds: from the start to the last round.
        picture: where it is; empty when no round closed.
        outage: of the hub; None when the run ended before it.
    """

    sites: int
    rounds_asked: int
    rounds: tuple[Round, ...]
    aborted: str
    records: tuple[tuple[int, int], ...]
    held_out: int
    auc_federated: float
    auc_pooled: float
    auc_alone: tuple[float, ...]
    words: int
    payload_bytes: int
    sent_bytes: float
    clipped_entries: int
    seconds: float
    picture: str
    outage: Outage | None

    @property
    def dropped(self) -> int:
        """Dropouts over all rounds."""
        return sum(len(one.dropouts) for one in self.rounds)

    @property
    def exact(self) -> bool:
        """Whether every round that was asked for closed with an exact sum."""
        return len(self.rounds) == self.rounds_asked and all(one.exact for one in self.rounds)

    @property
    def bytes_per_value(self) -> float:
        """What one value of the update costs on the wire."""
        return self.payload_bytes / self.words

    @property
    def step_seconds(self) -> dict[str, float]:
        """The mean time of each step."""
        steps = list(self.rounds[0].step_seconds) if self.rounds else []
        return {step: sum(one.step_seconds[step] for one in self.rounds) / len(self.rounds) for step in steps}
