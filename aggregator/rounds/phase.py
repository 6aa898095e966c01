"""The contract of a phase, and the two ways in which a round ends.

A phase collects one kind of answer. It knows nothing of clocks, streams or other phases' insides: the driver tells it
what arrived, asks whether enough did, and calls `finish`, whose return type is the state diagram.
"""

from abc import ABC, abstractmethod
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NoReturn, TypeVar, cast

from aggregator.crypto.roster import Roster
from aggregator.errors import MessageError, OutOfTurn
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.encoding import RingVector
from aggregator.protocol.spread import Each
from aggregator.storage.base import Spool
from aggregator.wire.messages import ClientBody, ServerBody
from aggregator.wire.vocabulary import Step


@dataclass(frozen=True, slots=True)
class Setting:
    """What all phases of one round share."""

    terms: RoundTerms
    roster: Roster = field(repr=False)
    roster_bytes: bytes = field(repr=False)
    spool: Spool = field(repr=False)
    each: Each = field(repr=False, default=map)


@dataclass(frozen=True, slots=True, eq=False)
class Completed:
    """The round's sum, shape (L,), unmasked, over the clients in `survivors` (U)."""

    setting: Setting
    survivors: tuple[ClientId, ...]
    total: RingVector = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """The round ended without a sum; before unmasking it cannot have revealed anything."""

    step: Step
    reason: str


Answer = TypeVar("Answer")


class Phase(ABC, Generic[Answer]):
    """One step of a round on the server's side.

    `members` are the clients still in the round; of those, `awaited` have not answered yet.
    """

    step: Step
    answer_type: ClassVar[type]

    def __init__(self, members: AbstractSet[ClientId]) -> None:
        self.members = frozenset(members)
        self.answers: dict[ClientId, Answer] = {}

    @property
    def awaited(self) -> frozenset[ClientId]:
        """Whose answer may still come."""
        return self.members - self.answers.keys()

    @property
    @abstractmethod
    def needed(self) -> int:
        """How many answers the next step needs."""

    @property
    def ready(self) -> bool:
        """Whether the answers so far are enough for the next step."""
        return len(self.answers) >= self.needed

    @abstractmethod
    def announcement(self, client: ClientId) -> ServerBody:
        """What this step says to one member; the same bytes however often it is asked."""

    @abstractmethod
    def check(self, client: ClientId, answer: Answer) -> None:
        """Check one answer of the right type.

        Raises:
            MessageError: not valid; nothing has changed.
        """

    @abstractmethod
    def finish(self) -> "Phase[Any] | Completed | Failed":
        """Go on with the answers that came. May take long in the last step; nothing else runs on this round."""

    def accept(self, client: ClientId, body: ClientBody) -> bool:
        """Take one answer; False for the identical answer again, which a broken line may bring.

        Raises:
            OutOfTurn: a client that is not in this step, or a message of another step.
            MessageError: a second answer that differs, or an invalid one.
        """
        if client not in self.members:
            raise OutOfTurn(f"{self.step}: client {client} is not in this step of the round")
        if not isinstance(body, self.answer_type):
            raise OutOfTurn(f"{self.step}: client {client} sent {type(body).__name__}, which belongs to another step")
        answer = cast("Answer", body)  # isinstance has just said so
        if self.answers.get(client) == answer:
            return False  # before the check, which costs a signature's verification
        self.check(client, answer)
        if client in self.answers:
            raise MessageError(f"{self.step}: client {client} answered twice, differently")
        self.answers[client] = answer
        return True

    def too_few(self, answers: str) -> Failed:
        """The end of a round to which this step has not brought enough."""
        return Failed(self.step, f"{self.step.replace('_', ' ')}: {len(self.answers)} {answers}, need {self.needed}")


class Over(Phase[None]):
    """What is left of a round's last phase once the round has ended: who was in it, and nothing that they said."""

    answer_type = type(None)

    def __init__(self, last: Phase[Any]) -> None:
        super().__init__(last.members)
        self.step = last.step

    @property
    def needed(self) -> int:
        """Nothing."""
        return 0

    def announcement(self, client: ClientId) -> NoReturn:
        """Nothing is announced any more: OutOfTurn."""
        raise OutOfTurn(f"{self.step}: the round is over")

    def check(self, client: ClientId, answer: None) -> NoReturn:
        """Nothing is taken any more: OutOfTurn."""
        raise OutOfTurn(f"client {client}: the round is over")

    def finish(self) -> NoReturn:
        """It has finished: OutOfTurn."""
        raise OutOfTurn(f"{self.step}: the round is over")
