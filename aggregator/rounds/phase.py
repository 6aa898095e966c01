"""The contract of a phase, and the two ways in which a round ends.

A phase collects one kind of answer. It knows nothing of clocks, streams or other phases' insides: the driver tells it
what arrived, asks whether enough did, and calls `finish`, whose return type is the state diagram.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NoReturn, TypeVar, cast

from aggregator.crypto.certificates import Certificate
from aggregator.crypto.roster import Roster
from aggregator.errors import MessageError, OutOfTurn
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.encoding import RingVector
from aggregator.protocol.parties import who
from aggregator.protocol.spread import Each
from aggregator.storage.base import Spool
from aggregator.wire.messages import AnnouncedKey, Chunk, CiphertextsRequest, ClientBody, RoundOpened, ServerBody
from aggregator.wire.vocabulary import Step


@dataclass(frozen=True, slots=True)
class Setting:
    """What all phases of one round share.

    `attending` holds key holder and auditor by their numbers (`protocol.parties`), in homomorphic mode; `key` is there
    once the key holder has published it, and `terms` name it from then on.
    """

    terms: RoundTerms
    roster: Roster = field(repr=False)
    roster_bytes: bytes = field(repr=False)
    spool: Spool = field(repr=False)
    each: Each = field(repr=False, default=map)
    attending: Mapping[ClientId, Certificate] = field(repr=False, default_factory=dict)
    key: AnnouncedKey | None = field(repr=False, default=None)

    def name(self, member: ClientId) -> str:
        """The name of a client, or of key holder or auditor."""
        return self.attending[member].name if member in self.attending else self.roster.name(member)

    def member_of(self, certificate: Certificate) -> ClientId:
        """A client's place in the roster, or the number of key holder or auditor.

        Raises:
            NotAdmitted: this very certificate is neither in the roster nor attends.
        """
        for number, party in self.attending.items():
            if party.fingerprint == certificate.fingerprint:
                return number
        return self.roster.index_of(certificate.fingerprint)

    def opened(self) -> RoundOpened:
        """The round's opening, as its clients are told of it."""
        return RoundOpened(self.terms.to_message(), self.roster_bytes, () if self.key is None else (self.key,))


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

    `members` may answer in this step; of those, `awaited` have not answered yet. `takes_in` is whether a client enters
    the round by its answer. Of a round that outlives the process, answers are written down unless `written_down` says
    otherwise, and with `keeps_sum` so is the step's sum, at its end; a step `frees` the uploads of another at its end.
    """

    step: Step
    answer_type: ClassVar[type]
    takes_in = False
    written_down = True
    keeps_sum = False
    frees: ClassVar[Step | None] = None

    def __init__(self, members: AbstractSet[ClientId]) -> None:
        self.members = frozenset(members)
        self.answers: dict[ClientId, Answer] = {}

    @property
    def awaited(self) -> frozenset[ClientId]:
        """Whose answer may still come."""
        return self.members - self.answers.keys()

    @property
    def standing(self) -> frozenset[ClientId]:
        """The clients that are still in the round: by default those that may answer."""
        return self.members

    @property
    def counted(self) -> frozenset[ClientId]:
        """Whose answers the next step was made of."""
        return frozenset(self.answers)

    @property
    def survivors(self) -> frozenset[ClientId]:
        """U, once it is fixed."""
        return frozenset()

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

    def chunk(self, member: ClientId, request: CiphertextsRequest, index: int) -> Chunk:
        """A chunk of the ciphertexts that this step has to show, in homomorphic mode.

        Raises:
            OutOfTurn: not in this step, or not to this member.
            MessageError: there are no such ciphertexts.
        """
        raise OutOfTurn(f"{self.step}: this step shows no ciphertexts")

    def note_withdrawal(self, client: ClientId, reason: str) -> None:
        """A member will not answer, for this reason."""

    def close(self) -> None:
        """Free what is not needed any more: the round has ended, perhaps in this step."""

    def accept(self, client: ClientId, body: ClientBody) -> bool:
        """Take one answer; False for the identical answer again, which a broken line may bring.

        Raises:
            OutOfTurn: a client that is not in this step, or a message of another step.
            MessageError: a second answer that differs, or an invalid one.
        """
        if client not in self.members:
            raise OutOfTurn(f"{self.step}: {who(client)} is not in this step of the round")
        if not isinstance(body, self.answer_type):
            raise OutOfTurn(f"{self.step}: {who(client)} sent {type(body).__name__}, which belongs to another step")
        answer = cast("Answer", body)  # isinstance has just said so
        if self.answers.get(client) == answer:
            return False  # before the check, which costs a signature's verification
        self.check(client, answer)
        if client in self.answers:
            raise MessageError(f"{self.step}: {who(client)} answered twice, differently")
        self.answers[client] = answer
        return True

    def too_few(self, answers: str) -> Failed:
        """The end of a round to which this step has not brought enough."""
        return Failed(self.step, f"{self.step.replace('_', ' ')}: {len(self.answers)} {answers}, need {self.needed}")


class Over(Phase[None]):
    """What is left of a round's last phase once the round has ended: who was in it, and nothing that they said."""

    answer_type = type(None)

    def __init__(self, step: Step, members: AbstractSet[ClientId], standing: AbstractSet[ClientId]) -> None:
        super().__init__(members)
        self.step = step
        self._standing = frozenset(standing)

    @property
    def standing(self) -> frozenset[ClientId]:
        """As in the last phase."""
        return self._standing

    @property
    def needed(self) -> int:
        """Nothing."""
        return 0

    def announcement(self, client: ClientId) -> NoReturn:
        """Nothing is announced any more: OutOfTurn."""
        raise OutOfTurn(f"{self.step}: the round is over")

    def check(self, client: ClientId, answer: None) -> NoReturn:
        """Nothing is taken any more: OutOfTurn."""
        raise OutOfTurn(f"{who(client)}: the round is over")

    def finish(self) -> NoReturn:
        """It has finished: OutOfTurn."""
        raise OutOfTurn(f"{self.step}: the round is over")
