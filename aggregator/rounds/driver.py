"""The one driver: it runs the phases of a round, and is the only place that knows of failure; of time, `waiting` knows.

A client whose line broke goes on where the round is when it comes back; who comes too late is told that the round went
on without it.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from aggregator.crypto.certificates import Certificate
from aggregator.errors import MessageError, OutOfTurn, SangamError, StorageError
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.parameters import Mode
from aggregator.rounds.advertise_keys import AdvertiseKeys
from aggregator.rounds.audit import Audit
from aggregator.rounds.commit_input import CommitInput
from aggregator.rounds.consistency_check import ConsistencyCheck
from aggregator.rounds.events import EventLog
from aggregator.rounds.freeze import Freeze
from aggregator.rounds.lines import Lines
from aggregator.rounds.meter import Meter
from aggregator.rounds.phase import Completed, Failed, Over, Phase, Setting
from aggregator.rounds.publish_key import PublishKey
from aggregator.rounds.share_keys import ShareKeys
from aggregator.rounds.stand import Stand
from aggregator.rounds.unmasking import Unmasking
from aggregator.rounds.uploads import Upload, Uploads
from aggregator.rounds.waiting import Waiting
from aggregator.rounds.writing import Writing
from aggregator.storage.base import RoundRecords
from aggregator.wire.messages import (
    Chunk,
    CiphertextsRequest,
    ClientMessage,
    Excluded,
    RoundClosed,
    RoundFailed,
    ServerBody,
    UploadHeader,
    Withdrawal,
)
from aggregator.wire.operator_messages import Deadlines
from aggregator.wire.vocabulary import HOMOMORPHIC_STEPS, MASKED_STEPS, EventKind, Step, sentence

T = TypeVar("T")

RETURN_S: Final = 10.0  # for a restarted server's clients, whose lines did not break by their own fault
EVENTS_PER_CLIENT_MAX = 20  # an honest client makes at most one per step, and one per bad share it received

_COLLECTING: Final = (AdvertiseKeys, ShareKeys, ConsistencyCheck, Unmasking, PublishKey, CommitInput, Freeze, Audit)
_STEP_OF: Final[dict[type, Step]] = {phase.answer_type: phase.step for phase in _COLLECTING}


class Driver:
    """One round from its opening to its end.

    Args:
        stand: where the round stands: see `first` for one that opens.
        setting: the round's terms, roster and spool.
        deadlines: how long each step waits, seconds.
        lines: who is connected.
        records: what the round writes down.
        result_shared: whether participants may fetch the result.
        clock: seconds, monotonic.
        now: the wall clock, unix seconds.
        ended: told how the round ended; it writes that down before clients hear of it.
        events: where to say what happens; None for a log of its own.
        meter: counts what the phases cost; None counts nothing.

    Attributes:
        ending: what its clients are told of its end; None while it has not ended.
        told: to whom that is addressed.
    """

    def __init__(
        self,
        stand: Stand,
        setting: Setting,
        deadlines: Deadlines,
        lines: Lines,
        records: RoundRecords,
        *,
        result_shared: bool,
        clock: Callable[[], float],
        now: Callable[[], float],
        ended: Callable[[Completed | Failed], Awaitable[None]],
        events: EventLog | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.events = EventLog(clock) if events is None else events
        self._setting = setting
        self.round = setting.terms.round
        self._name = setting.name
        self._order = HOMOMORPHIC_STEPS if setting.terms.parameters.mode is Mode.HOMOMORPHIC else MASKED_STEPS
        self._lines = lines
        self._writing = Writing(records, setting, now)
        self._result_shared = result_shared
        self._ended = ended
        resumed = stand.deadline_s is not None
        reconnect_s = max(deadlines.reconnect_s, RETURN_S) if resumed else deadlines.reconnect_s
        self._waiting = Waiting(deadlines, lines, clock, self._name, reconnect_s)
        self._meter = meter or Meter()
        self._stand = stand
        self._withdrawn: set[ClientId] = set()
        self._logged: Counter[ClientId] = Counter()
        self._turn = asyncio.Lock()  # held while a phase works in a thread, so that nothing changes under it
        self.ending: RoundClosed | RoundFailed | None = None
        self.told: frozenset[ClientId] = frozenset()
        self._may_tell = False

    async def run(self) -> Completed | Failed:
        """Run all phases. Every client that took part is told how the round ended, once that is written down.

        Raises:
            StorageError: the disk did not take what has to be on it before the round can go on.
        """
        if self._stand.deadline_s is None:
            self._stand = await self._writing.begin(self._stand, self._waiting.time_s(self.step))
            self.events.add(EventKind.STEP, self.step, clients=len(self._stand.phase.awaited))
        else:
            self.events.add(EventKind.RESUMED, self.step, clients=len(self._stand.phase.awaited))
        after: Phase[Any] | Completed | Failed = self._stand.phase
        while isinstance(after, Phase):
            after = await self._step(after)
        if isinstance(after, Completed):
            await self._writing.close(after)
        return await self.conclude(after)

    async def conclude(self, end: Completed | Failed) -> Completed | Failed:
        """End the round in this way, write that down, and tell its clients."""
        self._end(end)
        await self._ended(end)
        self.tell()
        return end

    def tell(self) -> None:
        """Tell its clients how the round ended."""
        self._may_tell = True
        for client in self.told:
            self.greet(client)

    def restore_end(self, ending: ServerBody, told: frozenset[ClientId]) -> None:
        """It had ended before the server started again; who comes back is told how."""
        if isinstance(ending, RoundClosed | RoundFailed):
            self.ending, self.told, self._may_tell = ending, told, True
            self._stand = Stand(Over(self.step, frozenset(), frozenset()))

    @property
    def step(self) -> Step:
        """The step that the round is in, or in which it ended."""
        return self._stand.phase.step

    @property
    def clients(self) -> int:
        """How many are in that step, whether or not they have answered."""
        return len(self._stand.phase.standing - self._withdrawn)

    def client_of(self, site: Certificate) -> ClientId:
        """The site's place in this round, a party's number; NotAdmitted for a certificate that is not of the round."""
        return self._setting.member_of(site)

    def greet(self, client: ClientId) -> None:
        """Tell a client that came (back) where the round is; nothing that is not written down yet."""
        if self.ending is not None and client in self.told:
            if self._may_tell:
                self._tell(client, self.ending)
        elif self._stand.deadline_s is None and self.ending is None:
            return  # nobody has heard of this round; when its terms are written down, everybody does
        elif self.ending is None and client in self._stand.phase.awaited:
            self._tell(client, self._stand.phase.announcement(client))
        elif client in self._stand.entered and client not in self._stand.phase.standing:
            self._exclude(client)

    def end_unexpectedly(self, reason: str) -> None:
        """End a round that its phases did not end: by its operator, by the server that stops, or by a step's mishap."""
        if self.ending is None:
            self._end(Failed(self._stand.phase.step, reason))

    async def deliver(self, client: ClientId, message: ClientMessage) -> None:
        """Take one message of the control stream.

        Raises:
            MessageError: malformed, false, differing from an earlier answer, or of a later step.
            Overloaded: the round is full.
        """
        body = message.body
        if message.round == self.round and self.ending is not None and not self._may_tell and client in self.told:
            return  # it hears how the round ended as soon as that is written down
        if message.round != self.round or self.ending is not None:
            self._lines.send(self._name(client), message.round, Excluded(f"round {message.round} is over"))
            return
        if isinstance(body, Withdrawal):
            if client in (self._stand.phase.members | self._stand.phase.standing) - self._withdrawn:
                self._withdraw(client, body)
            return
        async with self._turn:
            if self._is_late(client, body):
                return
            try:
                with self._meter.part(f"{self._stand.phase.step} accept"):
                    new = self._stand.phase.accept(client, body)
            except SangamError as error:
                self._log(EventKind.REFUSED, client, str(error))
                raise
            if new:
                self._writing.answered(self._stand.phase, client, body)
        if new:
            self._withdrawn.discard(client)  # a site that mended its update and came back in time
            self._answered(client)

    @property
    def durable(self) -> bool:
        """Whether what arrives outlives the process."""
        return self._writing.durable

    @property
    def chunks(self) -> int:
        """Of one client's input, or of a sum of ciphertexts."""
        return self._setting.terms.parameters.upload_plan.chunks

    def chunk(self, member: ClientId, request: CiphertextsRequest, index: int) -> Chunk:
        """A chunk of the ciphertexts that the present step has to show; errors as `Phase.chunk`.

        Raises:
            OutOfTurn: the round is over.
        """
        if request.round != self.round or self.ending is not None:
            raise OutOfTurn(f"round {request.round} is over")
        return self._stand.phase.chunk(member, request, index)

    def awaits(self, phase: Uploads[Any], client: ClientId) -> bool:
        """Whether the round is still in this step, and this client's input may still come."""
        here = self.ending is None and self._stand.phase is phase
        return here and client in phase.members and client not in phase.answers

    async def open_upload(self, client: ClientId, header: UploadHeader) -> tuple[Uploads[Any], Upload] | None:
        """Begin an upload, or go on with it; None when this client's input has already arrived.

        Raises:
            OutOfTurn: this round is in no step that takes uploads, or the client is not in it.
            MessageError: the header does not fit the round.
        """
        async with self._turn:
            phase = self._stand.phase
            if header.round != self.round or self.ending is not None or not isinstance(phase, Uploads):
                raise OutOfTurn(f"client {client}: round {header.round} takes no input now")
            with self._meter.part(f"{phase.step} accept"):
                upload = phase.begin(client, header)
            return None if upload is None else (phase, upload)

    def receive(self, phase: Uploads[Any], upload: Upload, chunk: Chunk) -> None:
        """Take one chunk of an upload; errors as `Uploads.receive`."""
        with self._meter.part(f"{phase.step} receive"):
            phase.receive(upload, chunk)

    async def close_upload(self, phase: Uploads[Any], upload: Upload) -> None:
        """Add a whole upload to the sum. Once begun, it goes on even if the caller is gone.

        Raises:
            MessageError: chunks are missing; they may still come.
            OutOfTurn: the step ended before the last chunk, and the upload was destroyed.
            Disconnected: a newer stream has it.
            StorageError: the staging failed; the upload is lost.
        """
        committing = asyncio.create_task(self._commit(phase, upload))
        committing.add_done_callback(_take_error)  # the caller may be gone
        await asyncio.shield(committing)

    async def _commit(self, phase: Uploads[Any], upload: Upload) -> None:
        phase.check_whole(upload)
        await self._writing.keep(phase, upload)
        async with self._turn:
            try:
                if self.ending is not None:
                    phase.abandon(upload)
                    raise OutOfTurn(f"client {upload.client}: round {self.round} is over")
                await self._in_thread(f"{phase.step} add", phase.commit, upload)
            except (MessageError, StorageError):
                self._writing.refused(phase, upload.client)
                raise
            await self._writing.fold(phase)
        self._answered(upload.client)
        for complaint in upload.header.complaints:
            dealer = self._name(complaint.dealer)
            self._log(EventKind.COMPLAINT, upload.client, f"the share of {dealer} does not decrypt: dealer or holder")

    async def _step(self, phase: Phase[Any]) -> Phase[Any] | Completed | Failed:
        for client in phase.awaited:
            with self._meter.part(f"{phase.step} announce"):
                announcement = phase.announcement(client)
            self._tell(client, announcement)
        wait_s = self._waiting.time_s(phase.step)
        await self._waiting.collect(phase, self._withdrawn, self._writing.left_s(self._stand, wait_s))
        async with self._turn:
            self._note_dropped(phase)
            after = await self._in_thread(f"{phase.step} finish", phase.finish)
            following = self._stand.after(after)
            if isinstance(after, Phase):
                wait_s = self._waiting.time_s(after.step)
                following = await self._writing.end_step(self._stand, following, wait_s)
                for client in phase.standing - after.standing:  # of the first step: also who only looked on
                    self._exclude(client, following.summed)
            self._stand = following
        if isinstance(after, Phase):
            self.events.add(EventKind.STEP, after.step, clients=len(after.awaited))
        return after

    async def _in_thread(self, part: str, work: Callable[..., T], *arguments: object) -> T:
        with self.events.observer.working(part):
            return await asyncio.to_thread(self._meter.run, part, work, *arguments)

    def _is_late(self, client: ClientId, body: object) -> bool:
        """Whether a message belongs to an earlier step: a resend is ignored, a straggler is told."""
        if self.ending is not None:
            return True  # the round ended while this message waited for its turn
        step = _STEP_OF.get(type(body))
        if step not in self._order:
            raise MessageError(f"client {client} sent {type(body).__name__} in the middle of a round")
        if self._order.index(step) >= self._order.index(self._stand.phase.step):
            return False
        if client not in self._stand.phase.standing | self._stand.phase.members:
            self._exclude(client)
        return True

    def _answered(self, client: ClientId) -> None:
        self._log(EventKind.ANSWERED, client)
        self._lines.changed.set()

    def _withdraw(self, client: ClientId, body: Withdrawal) -> None:
        self._withdrawn.add(client)
        self._stand.phase.note_withdrawal(client, body.reason)
        self._log(EventKind.WITHDREW, client, body.reason)
        self._lines.changed.set()

    def _note_dropped(self, phase: Phase[Any]) -> None:
        for client in sorted(phase.awaited - self._withdrawn):
            away = not self._lines.is_connected(self._name(client))
            self._log(EventKind.DROPPED, client, "its line is broken" if away else "no answer in time")

    def _exclude(self, client: ClientId, summed: frozenset[ClientId] | None = None) -> None:
        """Tell a client that its update is not in the sum; one in U that missed a later step hears how it ends."""
        if client in (self._stand.summed if summed is None else summed) or client in self._setting.attending:
            return
        reason = f"round {self.round} went on without this client: its answer did not arrive in time"
        self._tell(client, Excluded(reason))

    def _end(self, end: Completed | Failed) -> None:
        if isinstance(end, Completed):
            self.ending = RoundClosed(end.survivors, self._result_shared)
            told = frozenset(end.survivors) | self._setting.attending.keys()
            self.events.add(EventKind.CLOSED, self._stand.phase.step, clients=len(end.survivors))
        else:
            self.ending = RoundFailed(sentence(end.reason))
            told = self._stand.entered | self._stand.phase.members | self._setting.attending.keys()
            self.events.add(EventKind.FAILED, end.step, detail=end.reason)
        self.events.observer.ended(self._meter.seconds)
        self.told = told
        last = self._stand.phase
        last.close()  # of a round that was ended in this step, nothing that has arrived stays
        # What was said, and the masked sum, need room and are needed no more.
        self._stand = Stand(Over(last.step, last.members, last.standing))

    def _tell(self, client: ClientId, body: ServerBody) -> None:
        self._lines.send(self._name(client), self.round, body)

    def _log(self, kind: EventKind, client: ClientId, detail: str = "") -> None:
        """Note what one client did; a hostile one cannot fill the log."""
        self._logged[client] += 1
        if self._logged[client] <= EVENTS_PER_CLIENT_MAX:
            self.events.add(kind, self._stand.phase.step, client=self._name(client), detail=detail)


def first(setting: Setting, invited: frozenset[ClientId] | None = None) -> Stand:
    """Where a round stands that opens.

    Args:
        setting: the round's.
        invited: who may take part; None for the whole roster.
    """
    homomorphic = setting.terms.parameters.mode is Mode.HOMOMORPHIC
    return Stand((PublishKey if homomorphic else AdvertiseKeys)(setting, invited))


def _take_error(task: asyncio.Task[None]) -> None:
    """Mark a task's error as seen, so that asyncio does not log it when nobody else asks."""
    if not task.cancelled():
        task.exception()
