"""A participant's session: connect once, contribute round after round.

async with clients.connect("aggregator:7443", "site/") as session:
    result = await session.contribute({"w": w, "b": b}, weight=569, base=model)
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from aggregator import tracing
from aggregator.crypto.agreement import Entropy
from aggregator.crypto.keystream import SEED_BYTES
from aggregator.errors import Equivocation, OutOfTurn, ParameterError, RoundAborted, SangamError, StorageError
from aggregator.protocol.context import hash_model
from aggregator.protocol.encoding import Encoded, Update, encode
from aggregator.protocol.homomorphic_participant import Keyed
from aggregator.protocol.parameters import Parameters
from aggregator.protocol.participant import Invited
from aggregator.protocol.spread import Each
from aggregator.wire.messages import (
    AdvertList,
    ClientBody,
    Excluded,
    FrozenList,
    RoundClosed,
    RoundFailed,
    RoundOpened,
    ServerMessage,
    ShareList,
    SignatureList,
    Survivors,
    Withdrawal,
)
from aggregator.wire.vocabulary import sentence
from clients.contribution import Answer, Contribution, MaskedContribution, Observer, Own
from clients.credentials import Credentials, utc_now
from clients.download import Download
from clients.encrypted import EncryptedContribution, encrypt
from clients.invitation import Invitations
from clients.journal import Journal
from clients.line import Line
from clients.result import RoundResult, collect
from clients.retry import DEFAULT_PATIENCE_S
from clients.rosters import OF_THIS_PROCESS, Rosters
from clients.tracing import RoundTrace
from clients.transport import Transport
from clients.uploading import WholeUpload, send_whole

T = TypeVar("T")

STEPS = (AdvertList, ShareList, Survivors, SignatureList, FrozenList)
RESTARTED = "this site restarted, and holds no secrets of this round"

# All that the server may know of it: which entry is at fault depends on the data.
REFUSED_UPDATE = "the site's own update does not fit the task"
FAILED_STORAGE = "the site's own disk failed"  # the error itself names its files
UNDELIVERED = "the site's input could not be delivered"


@dataclass(frozen=True, slots=True)
class _Offer:
    """What the caller wants to contribute."""

    update: Update = field(repr=False)
    weight: int = field(repr=False)
    model_hash: bytes
    again: str
    observer: Observer | None
    parameters: Parameters | None


class Session:
    """One participant of one task; one contribution at a time. Made by `connect`.

    Args:
        transport: the way to the server.
        credentials: who this client is and what it insists on.
        journal: this site's memory across restarts.
        task: the task's name; empty for the server's only task.
        patience_s: how long a broken line is retried, seconds.
        entropy: the source of every secret.
        each: runs independent parts of the work on a vector, perhaps in several threads.
        now: the wall clock, for certificates.
        rosters: those that this process has verified.
    """

    def __init__(
        self,
        transport: Transport,
        credentials: Credentials,
        journal: Journal,
        *,
        task: str = "",
        patience_s: float = DEFAULT_PATIENCE_S,
        entropy: Entropy = os.urandom,
        each: Each = map,
        now: Callable[[], datetime] = utc_now,
        rosters: Rosters = OF_THIS_PROCESS,
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._journal = journal
        self._patience_s = patience_s
        self._entropy = entropy
        self._each = each
        self._line = Line(transport, task, patience_s, self._refuse, credentials, rosters=rosters)
        self._invitations = Invitations(self._line, credentials, journal, rosters, now)
        self._engaged = 0  # the round that this process holds secrets of
        self._busy = False
        self._trace = RoundTrace()

    @property
    def task(self) -> str:
        """The task that this session joined."""
        return self._line.task

    async def open(self) -> None:
        """Join the task.

        Raises:
            Disconnected: the server cannot be reached.
            Equivocation: no task was named, and the server's only one has another name than before.
            SangamError: as the server names it.
        """
        named = bool(self._line.task)
        await self._line.open()
        if not named:
            self._journal.pin_unnamed_task(self._credentials.site.certificate.deployment, self._line.task)

    async def close(self) -> None:
        """Leave; a round in progress goes on without this site."""
        await self._line.close()

    async def contribute(
        self,
        update: Update,
        *,
        weight: int,
        base: Update | None = None,
        again: str = "",
        observer: Observer | None = None,
        parameters: Parameters | None = None,
    ) -> RoundResult | None:
        """Take part in the next round with one update; waits for a round to open, and for its end.

        Args:
            update: arrays by tensor name, as the task defines them; real and finite.
            weight: the number of samples behind the update; travels masked.
            base: the model that the update starts from. The round must start from the very same one.
            again: why this site contributes once more to this task on the same model; kept in the journal.
            observer: told of each step and of the vectors, on this machine.
            parameters: what was agreed on; a round with any others is refused before the update is looked at.

        Returns:
            The round's weighted mean; None where the task keeps results for its operator.

        Raises:
            ParameterError: the update does not fit the task, or the round protects less than this site demands.
            StaleModel: the round starts from another model than `base`.
            Equivocation: the server lies; this site's journal keeps it out of that round.
            RoundAborted: the round failed, or went on without this site.
            Disconnected: the line stayed broken for longer than this session's patience.
        """
        if self._busy:
            raise ParameterError("this session is already contributing: one contribution at a time")
        offer = _Offer(update, weight, hash_model(base), again, observer, parameters)
        self._busy = True
        try:
            self._line.skip_ended_rounds()
            return await self._take_part(offer)
        finally:
            self._busy = False

    async def fetch_result(self, round_number: int = 0, *, base: Update | None = None) -> RoundResult:
        """The result of a closed round; 0 is the last one, over `base` where it is given.

        That is how a site that was away gets at the current model. A line that breaks meanwhile is gone on with where
        it broke. Memory: the words, 4 or 8 bytes each, and the mean in float64: of 10^9 entries 8 GB beside words of up
        to 8 GB.

        Raises:
            NotFound: no such result, or no longer kept.
            NotAdmitted: the task keeps its results for its operator.
        """
        return await self._fetch(
            Download(self.task, round_number, model_hash=b"" if base is None else hash_model(base))
        )

    def _refuse(self, message: ServerMessage) -> ClientBody | None:
        """Withdraw from a round that an earlier process of this site was in, so that nobody waits for it."""
        if isinstance(message.body, STEPS) and message.round != self._engaged:
            return Withdrawal(RESTARTED)
        return None

    async def _take_part(self, offer: _Offer) -> RoundResult | None:
        part: Contribution | None = None
        try:
            while True:
                message = await self._line.receive()
                if isinstance(message.body, RoundOpened):
                    part = await self._opened(part, message, message.body, offer)
                if part is None or message.round != part.round:
                    continue
                match message.body:
                    case RoundClosed() as closed:
                        return await self._closed(part, closed)
                    case RoundFailed(reason):
                        raise RoundAborted(sentence(f"round {part.round}: {reason}"))
                    case Excluded(reason) if part.bound:
                        raise RoundAborted(sentence(reason))
                    case Excluded():
                        part = None  # only public keys have left: the update may wait for the next round
                        self._trace.end()
                    case _:
                        await self._answer(part, message)
        except BaseException as error:
            self._trace.end(error)
            raise
        finally:
            self._trace.end()
            self._engaged = 0
            if part is not None:
                part.forget()

    async def _opened(
        self, part: Contribution | None, message: ServerMessage, opened: RoundOpened, offer: _Offer
    ) -> Contribution:
        if part is not None and message.round == part.round:
            return part
        if part is not None and part.bound:
            self._line.put_back(message)
            raise RoundAborted(f"round {part.round} ended while this site was away")
        accepting = self._invitations.accept(opened, offer.model_hash, offer.again, offer.parameters)
        accepted = await self._withdrawing(message.round, accepting)
        invited = accepted.invited if isinstance(accepted, Keyed) else accepted
        self._trace.end()  # of a round that another one has overtaken
        self._trace = RoundTrace.of(invited.terms, self._credentials.site.certificate.name)
        with self._trace.part("encode"):
            encoding = asyncio.to_thread(self._encode, invited, offer)
            encoded = await self._withdrawing(message.round, encoding, reason=REFUSED_UPDATE)
        self._engaged = message.round
        own = Own(self._journal, self._entropy, offer.observer)
        if not isinstance(accepted, Keyed):
            return MaskedContribution(invited, encoded, own, self._each)
        with self._trace.part("encrypt"):
            encrypting = asyncio.to_thread(encrypt, encoded, accepted, self._entropy, self._each)
            encrypted = await self._withdrawing(message.round, encrypting)
        return EncryptedContribution(accepted, encoded, own, encrypted)

    def _encode(self, invited: Invited, offer: _Offer) -> Encoded:
        parameters = invited.terms.parameters
        seed = self._entropy(SEED_BYTES)
        return encode(offer.update, offer.weight, parameters, invited.ctx0, seed, each=self._each)

    async def _answer(self, part: Contribution, message: ServerMessage) -> None:
        with self._trace.part("answer again"):  # or the step's name, which comes with what is answered first
            await self._answer_now(part, message)

    async def _answer_now(self, part: Contribution, message: ServerMessage) -> None:
        if isinstance(message.body, ShareList):  # the masking; it touches no journal
            work: Awaitable[Answer] = asyncio.to_thread(part.answer, message.body)
        else:
            work = _at_once(part, message)
        answer = await self._withdrawing(part.round, work)
        if isinstance(answer, WholeUpload):
            await self._withdrawing(part.round, self._upload(part, answer), reason=UNDELIVERED)
        else:
            await self._line.send(part.round, answer)

    async def _upload(self, part: Contribution, upload: WholeUpload) -> None:
        """Send the input until it has arrived; when the step is over, the control stream says what comes next.

        After a broken line the server says which chunks it holds; the others are sent, byte for byte the same.
        """
        facts = {"bytes": len(upload.payload), "chunks": upload.plan.chunks}
        with suppress(OutOfTurn), tracing.span("upload", facts=facts):
            await send_whole(self._transport, upload, self._patience_s, part.sent)

    async def _closed(self, part: Contribution, closed: RoundClosed) -> RoundResult | None:
        part.check_closed(closed.survivors)
        if not closed.result_shared:
            return None
        with self._trace.part("fetch result"):
            result = await self._fetch(Download(self.task, part.round, part.invited.ctx0))
        names = tuple(part.invited.roster.name(client) for client in closed.survivors)
        if result.participants != names:
            raise Equivocation(f"round {part.round}: the result names other participants than the round")
        return replace(result, clipped_entries=part.encoded.clipped_entries)

    async def _fetch(self, download: Download) -> RoundResult:
        wanted = download.request.round
        result = await collect(self._transport.fetch_result, download, self._patience_s, self._each)
        if result.task != self.task or wanted not in (0, result.round):
            raise Equivocation(f"asked for round {wanted} of {self.task}, got {result.round} of {result.task}")
        return result

    async def _withdrawing(self, round_number: int, work: Awaitable[T], reason: str = "") -> T:
        """Do one step's work; when it refuses, tell the server, then the caller."""
        try:
            return await work
        except SangamError as error:
            said = reason or (FAILED_STORAGE if isinstance(error, StorageError) else str(error))
            await self._line.send(round_number, Withdrawal(sentence(said)))
            raise


async def _at_once(part: Contribution, message: ServerMessage) -> Answer:
    return part.answer(message.body)
