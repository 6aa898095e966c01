"""One client's part in one round: each announcement is answered once, and the same answer is given again.

The journal is written before anything leaves: an advert, a share, a signature, an unmasking answer. Secrets live
here, in memory only; a process that restarts has dropped out of the round.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from aggregator import tracing
from aggregator.crypto.agreement import Entropy
from aggregator.errors import Equivocation, MessageError
from aggregator.protocol import participant
from aggregator.protocol.encoding import Encoded, RingVector
from aggregator.protocol.participant import Advertised, Invited, Masked, Shared, Signed
from aggregator.protocol.spread import Each
from aggregator.wire.messages import (
    UPLOAD_ID_BYTES,
    AdvertList,
    ClientBody,
    RoundOpened,
    ServerBody,
    ShareList,
    SignatureList,
    Survivors,
    UploadHeader,
)
from aggregator.wire.vocabulary import Step
from clients.journal import Journal
from clients.memory import RoundKey
from clients.uploading import WholeUpload


class Observer(Protocol):
    """What a caller may watch of its own contribution, on its own machine; who derives from it overrides some of it."""

    def step(self, name: Step) -> None:
        """The client is about to answer in this step."""
        return

    def vectors(self, encoded: RingVector, payload: memoryview) -> None:
        """The update as words of the ring, and the bytes in which it leaves."""
        return

    def sent(self, chunks: int, of: int) -> None:
        """So many chunks of the input have left; fewer than before when a broken line made it begin again."""
        return


Answer: TypeAlias = ClientBody | WholeUpload


@dataclass(frozen=True, slots=True)
class Own:
    """What a client brings to every round: its memory across restarts, its source of secrets, and who watches."""

    journal: Journal
    entropy: Entropy = field(repr=False)
    observer: Observer | None


class Contribution(ABC):
    """One round from this client's side. Announcements come in order; a repeated one gets the identical answer.

    Args:
        invited: the round, its terms already checked.
        encoded: the update as words of the ring.
        own: what this client brings to every round.
    """

    def __init__(self, invited: Invited, encoded: Encoded, own: Own) -> None:
        self.invited = invited
        self.encoded = encoded
        self._journal = own.journal
        self._entropy = own.entropy
        self._observer = own.observer
        self._answered: dict[type, tuple[ServerBody, Answer]] = {}
        self._key: RoundKey | None = None

    @property
    def round(self) -> int:
        """The round's number."""
        return self.invited.terms.round

    @property
    @abstractmethod
    def bound(self) -> bool:
        """Whether so much has left that this update belongs to this round."""

    @abstractmethod
    def check_closed(self, survivors: tuple[int, ...]) -> None:
        """Check the survivors that the round is said to have closed with.

        Raises:
            Equivocation: not the ones that this client agreed to, or its input has not even left.
            RoundAborted: too few, or without this client.
        """

    def answer(self, body: ServerBody) -> Answer:
        """The answer to one announcement.

        Raises:
            Equivocation: another announcement for a step that was answered; all that the steps raise.
            MessageError: an announcement out of order.
        """
        if type(body) in self._answered:
            seen, answer = self._answered[type(body)]
            if seen != body:
                raise Equivocation(f"round {self.round}: the server announced {type(body).__name__} twice, differently")
            return answer
        answer = self._next(body)
        self._answered[type(body)] = (body, answer)
        return answer

    def forget(self) -> None:
        """Drop the round's secrets; what the journal has of it goes into its file."""
        self._answered.clear()
        self._journal.fold()

    @abstractmethod
    def _next(self, body: ServerBody) -> Answer:
        """The answer to an announcement that is new; errors as `answer`."""

    def _enter(self) -> None:
        terms = self.invited.terms
        self._key = self._journal.open_context(terms.deployment, terms.task, terms.round, self.invited.ctx0)

    def _entered(self) -> RoundKey:
        if self._key is None:
            raise MessageError(f"round {self.round} was never entered")
        return self._key

    def _record_answer(self) -> None:
        terms = self.invited.terms
        self._journal.record_answer(terms.deployment, terms.task, terms.round, terms.model_hash)

    def sent(self, chunks: int, of: int) -> None:
        """So many chunks of the input have left."""
        if self._observer is not None:
            self._observer.sent(chunks, of)

    def _watch(self, step: Step) -> None:
        tracing.rename(step)
        if self._observer is not None:
            self._observer.step(step)

    def _show(self, payload: memoryview) -> None:
        if self._observer is not None:
            self._observer.vectors(self.encoded.words, payload)


class MaskedContribution(Contribution):
    """One round in a masked mode.

    Args:
        invited, encoded: as `Contribution`.
        own: as `Contribution`.
        each: runs independent parts of the work on the vector, perhaps in several threads.
    """

    def __init__(self, invited: Invited, encoded: Encoded, own: Own, each: Each) -> None:
        super().__init__(invited, encoded, own)
        self._each = each
        self._state: Invited | Advertised | Shared | Masked | Signed | None = invited

    @property
    def bound(self) -> bool:
        """Whether shares have left."""
        return AdvertList in self._answered

    def check_closed(self, survivors: tuple[int, ...]) -> None:
        """As `Contribution.check_closed`.

        A client whose line broke before it signed checks them as it would have then, and signs nothing.
        """
        match self._state:
            case Signed(survivors=signed) if signed == survivors:
                pass
            case Masked() as masked:
                participant.check_consistency(masked, Survivors(masked.dealers, survivors))
            case _:
                raise Equivocation(f"round {self.round}: closed over other clients than this site agreed to")
        self._record_answer()  # the update is in a sum, whether or not this site's own answer left

    def forget(self) -> None:
        """Drop the round's secrets."""
        super().forget()
        self._state = None

    def _next(self, body: ServerBody) -> Answer:
        match body, self._state:
            case RoundOpened(), Invited() as invited:
                return self._advertise(invited)
            case AdvertList(), Advertised() as advertised:
                return self._share(advertised, body)
            case ShareList(), Shared() as shared:
                return self._mask(shared, body)
            case Survivors(), Masked() as masked:
                return self._sign(masked, body)
            case SignatureList(), Signed() as signed:
                return self._unmask(signed, body)
        raise MessageError(f"round {self.round}: {type(body).__name__} came out of order")

    def _advertise(self, invited: Invited) -> ClientBody:
        self._watch(Step.ADVERTISE_KEYS)
        self._enter()
        self._state = participant.advertise_keys(invited, self._entropy)
        return self._state.advert

    def _share(self, state: Advertised, body: AdvertList) -> ClientBody:
        self._watch(Step.SHARE_KEYS)
        shared, dealing = participant.share_keys(state, body, self._entropy)
        self._journal.fix_context(self._entered(), shared.cohort.ctx1)
        self._state = shared
        return dealing

    def _mask(self, state: Shared, body: ShareList) -> WholeUpload:
        self._watch(Step.MASKED_INPUT)
        masked, payload = participant.mask_input(state, body, self.encoded.words, self._entropy, self._each)
        self._show(payload)
        self._state = masked
        terms, upload_id = self.invited.terms, self._entropy(UPLOAD_ID_BYTES)
        header = UploadHeader(terms.task, terms.round, len(payload), masked.complaints, upload_id)
        return WholeUpload(header, payload, terms.parameters.upload_plan)

    def _sign(self, state: Masked, body: Survivors) -> ClientBody:
        self._watch(Step.CONSISTENCY_CHECK)
        signed = participant.check_consistency(state, body)
        self._journal.sign_survivors(self._entered(), signed.survivors_hash)
        self._state = signed
        return signed.signature

    def _unmask(self, state: Signed, body: SignatureList) -> ClientBody:
        self._watch(Step.UNMASKING)
        answer = participant.unmask(state, body)
        self._record_answer()
        return answer
