"""A task in memory, its members and their lines: what a sequence of messages is played on.

Members are clients from 0 on, and in homomorphic mode key holder and auditor by their numbers. Nothing happens by
itself: not even the work of threads, nor time.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Coroutine, Iterator
from typing import Any, Final

from aggregator.errors import Equivocation, MessageError, OutOfTurn, SangamError
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.protocol.parties import AUDITOR, KEY_HOLDER
from aggregator.rounds.driver import Driver
from aggregator.rounds.lines import OUTBOX_MESSAGES_MAX, Line
from aggregator.rounds.task import Host, Task
from aggregator.rounds.uploads import Upload, Uploads
from aggregator.storage.forgetful import Forgetful
from aggregator.storage.spool import MemorySpool
from aggregator.wire import codec, operator_messages
from aggregator.wire.messages import (
    Chunk,
    CiphertextsRequest,
    ClientMessage,
    Excluded,
    RoundClosed,
    RoundFailed,
    ServerMessage,
    UploadHeader,
    UploadMessage,
    Welcome,
)
from aggregator.wire.vocabulary import HOMOMORPHIC_STEPS
from tests.consortium import TASK, Consortium, drbg
from tests.fuzz import verdict
from tests.fuzz.loop import Loop
from tests.fuzz.members import Auditor, Encrypting, KeyHolder, Member, certificate, masked
from tests.harness import Body, quantised_words

DEADLINES: Final = operator_messages.Deadlines(10.0, 10.0, 10.0, 10.0, 10.0, 3.0, 10.0)
PATIENCE_S: Final = 10_000.0  # more than any step waits
TURNS_MAX: Final = 3 * len(HOMOMORPHIC_STEPS)  # of everybody, until a round has ended
ENDINGS: Final = (RoundClosed, RoundFailed, Excluded, Welcome)


class Stream:
    """One upload of one member over one stream, as far as it is known here."""

    def __init__(self, phase: Uploads[Any], upload: Upload, accepted: list[bytes]) -> None:
        self.phase = phase
        self.upload = upload
        self.accepted = accepted  # the chunks that the server took, over this stream and those before it


class Stage:
    """See above.

    Args:
        spec: the parameters of the task.
        clients: how many are in the roster.
        opening: when its rounds open.
        loop: on which it is played.
    """

    def __init__(self, spec: Parameters, clients: int, opening: operator_messages.Opening, loop: Loop) -> None:
        self.loop = loop
        self.spec = spec
        self.consortium = Consortium.of(clients)
        self.words = quantised_words(self.consortium.terms(spec), range(clients))
        self.parties = (KEY_HOLDER, AUDITOR)[: len(spec.parties.names)] if spec.parties else ()
        self.everybody = (*range(clients), *self.parties)
        self.spool = MemorySpool()
        stated = operator_messages.Task(TASK, spec.to_message(), DEADLINES, False, opening)
        host = self._host()
        self.task = Task(stated, host, host.records.create(stated, "operator", 0.0))
        self.lines: dict[int, Line] = {}
        self.heard: defaultdict[int, deque[ServerMessage]] = defaultdict(deque)
        self.said: list[bytes] = []
        self.streams: dict[int, Stream] = {}
        self._members: dict[tuple[int, int], Member] = {}
        self.answers: dict[tuple[int, int, type], tuple[Body, ...]] = {}
        self._accepted: defaultdict[tuple[int, int, bytes], list[bytes]] = defaultdict(list)
        self.counted: dict[tuple[int, int], bytes] = {}
        self.had: set[tuple[int, int]] = set()  # whose upload the server says that it has
        self._spawned: set[asyncio.Task[None]] = set()
        self.rounds: list[asyncio.Task[None]] = []

    # ------------------------------------------------------------ the operator, and time

    def start_round(self) -> None:
        """The next one, unless one is running."""
        try:
            self.task.start_round(bytes(32))
        except OutOfTurn:
            return
        assert self.task._running is not None
        self.rounds.append(self.task._running)

    async def abort(self) -> None:
        """End the round that is running. Work that has begun in a thread goes on, as threads do."""
        running = self.task.history.running
        if running is not None:
            self.spawn(self.task.abort_round(running.number, "the operator's reason"))
            await self.quiet()

    def pass_time(self, seconds: float) -> None:
        """Move the clock; whoever waits looks at it."""
        self.loop.now += seconds
        self.task.lines.changed.set()

    async def quiet(self) -> None:
        """Everything goes on until it waits for a message, for a thread or for time; errors come out here."""
        await self.loop.settle()
        done = {task for task in self._spawned if task.done()}
        self._spawned -= done
        for error in [task.exception() for task in done]:
            if error is not None:
                raise error
        self._listen()

    async def work(self) -> None:
        """The threads do all that they have to do."""
        await self.quiet()
        while self.loop.held.step():
            await self.quiet()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Let something go on beside the rest."""
        self._spawned.add(self.loop.create_task(coroutine))

    # ------------------------------------------------------------ lines

    def connect(self, member: int) -> None:
        """A new line, which takes the place of an older one."""
        self.heard[member].clear()
        self.streams.pop(member, None)
        try:
            self.lines[member] = self.task.join(certificate(self.consortium, member))
        except SangamError:
            self.lines.pop(member, None)

    def disconnect(self, member: int, error: SangamError | None = None) -> None:
        """A line breaks, or the server ends it."""
        line = self.lines.pop(member, None)
        self.streams.pop(member, None)
        if line is not None:
            line.close(error)
            self.task.lines.disconnect(line)

    def _listen(self) -> None:
        for member, line in list(self.lines.items()):
            assert line._outbox.qsize() <= OUTBOX_MESSAGES_MAX
            while not line._outbox.empty():
                message = line._outbox.get_nowait()
                if message is None:
                    self.disconnect(member)
                    break
                self._hear(member, codec.decode(ServerMessage, codec.encode(message)))

    def _hear(self, member: int, message: ServerMessage) -> None:
        if not isinstance(message.body, ENDINGS):
            self.heard[member].append(message)

    # ------------------------------------------------------------ messages

    def answer(self, member: int) -> tuple[Body, ...]:
        """The honest answer to what a member heard first; nothing where it heard nothing, or refuses."""
        if not self.heard[member]:
            return ()
        message = self.heard[member].popleft()
        known = (member, message.round, type(message.body))
        if known not in self.answers:
            try:
                self.answers[known] = self._member(member, message.round).react(message.body)
            except Equivocation:
                raise AssertionError("an honest server was caught lying") from None
            except (SangamError, KeyError, AttributeError):
                return ()  # KeyError, AttributeError: of a round that it did not enter
        return self.answers[known]

    def say(self, member: int, body: Body, number: int) -> bytes:
        """One message as it travels; what was said stays known, for who repeats it."""
        raw = codec.encode(ClientMessage(number, body))
        self.said.append(raw)
        return raw

    async def deliver(self, member: int, raw: bytes) -> None:
        """Bytes on a member's line; when they are refused, the line ends, as in the service."""
        try:
            message = codec.decode(ClientMessage, raw)
            await self.task.deliver(certificate(self.consortium, member), message)
        except SangamError as error:
            self.disconnect(member, error)

    async def play(self, member: int) -> None:
        """A member does what it should, if there is anything to do."""
        if member not in self.lines:
            return
        number = self.heard[member][0].round if self.heard[member] else 0
        answer = self.answer(member)
        if answer and isinstance(answer[0], UploadHeader):
            await self.upload(member, answer)
        elif answer:
            await self.deliver(member, self.say(member, answer[0], number))

    # ------------------------------------------------------------ uploads

    async def upload(self, member: int, parts: tuple[Body, ...]) -> None:
        """A whole one, from where the server wants it."""
        stream = await self.open(member, codec.encode(UploadMessage(parts[0])))
        if stream is None:
            return
        for chunk in parts[1 + stream.upload.chunks :]:
            if not self.send(member, codec.encode(UploadMessage(chunk))):
                return
        await self.close(member)

    async def open(self, member: int, raw: bytes) -> Stream | None:
        """The header's bytes over a new stream."""
        self.streams.pop(member, None)
        try:
            header = codec.decode(UploadMessage, raw).body
            if not isinstance(header, UploadHeader):
                raise MessageError("an upload starts with its header")
            driver = self.driver(header.round)
            opened = await driver.open_upload(driver.client_of(certificate(self.consortium, member)), header)
        except SangamError:
            return None
        if opened is None:
            self.had.add((header.round, member))
            return None
        accepted = self._accepted[header.round, member, header.upload_id]
        if not opened[1].chunks:
            accepted.clear()
        assert len(accepted) == opened[1].chunks, "an upload goes on where it was"
        self.streams[member] = Stream(*opened, accepted)
        return self.streams[member]

    def send(self, member: int, raw: bytes) -> bool:
        """A chunk's bytes over a member's stream; whether the stream goes on."""
        stream = self.streams.get(member)
        if stream is None:
            return False
        phase, upload = stream.phase, stream.upload
        try:
            chunk = codec.decode(UploadMessage, raw).body
            if not isinstance(chunk, Chunk):
                raise MessageError("an upload has one header, then chunks")
            self.driver(upload.header.round).receive(phase, upload, chunk)
        except MessageError as error:
            phase.refuse(upload, error)
        except SangamError:
            phase.abandon(upload)
        else:
            stream.accepted.append(bytes(chunk.data))
            return True
        self.streams.pop(member)
        return False

    async def close(self, member: int) -> None:
        """The end of a member's stream."""
        stream = self.streams.pop(member, None)
        if stream is None:
            return
        header, payload = stream.upload.header, b"".join(stream.accepted)
        try:
            await self.driver(header.round).close_upload(stream.phase, stream.upload)
        except SangamError:
            return
        assert len(payload) == header.payload_bytes
        self.counted[header.round, member] = payload

    def driver(self, number: int) -> Driver:
        """Of a round; OutOfTurn for another than the last."""
        return self.task.driver(number)

    # ------------------------------------------------------------ the end

    async def finish(self, honest: bool) -> None:
        """Until no round is running: all members come back and do as they should, or time passes."""
        for _ in range(TURNS_MAX if honest else 0):
            await self.everybody_plays()
            if self.task.history.running is None:
                break
        for _ in range(TURNS_MAX):
            await self.work()
            if self.task.history.running is None:
                break
            self.pass_time(PATIENCE_S)
        assert self.task.history.running is None, "a round whose deadlines have all passed still runs"
        await self.work()
        assert not self._spawned, "somebody still waits for a round that has ended"
        verdict.check(self)
        self.spawn(self.task.close())
        await self.work()
        assert not self._spawned

    async def everybody_plays(self) -> None:
        """All come who are away, and answer what they have heard."""
        for member in self.everybody:
            if member not in self.lines:
                self.connect(member)
        await self.work()
        for member in self.everybody:
            self.spawn(self.play(member))
        await self.work()

    def _member(self, member: int, number: int) -> Member:
        known = (member, number)
        if known not in self._members:
            self._members[known] = self._made(member, number)
        return self._members[known]

    def _made(self, member: int, number: int) -> Member:
        if member == KEY_HOLDER:
            return KeyHolder(lambda wanted: self._chunks(member, wanted))
        if member == AUDITOR:
            return Auditor(lambda wanted: self._chunks(member, wanted))
        if self.spec.mode is Mode.HOMOMORPHIC:
            return Encrypting(self.consortium, member, self.words[member])
        return masked(self.consortium, member, self.words[member], number)

    def _chunks(self, member: int, wanted: CiphertextsRequest) -> Iterator[Chunk]:
        driver = self.driver(wanted.round)
        for index in range(driver.chunks):
            yield driver.chunk(member, wanted, index)

    def _host(self) -> Host:
        return Host(
            authority=self.consortium.authority.certificate,
            roster=lambda: self.consortium.roster,
            records=Forgetful(self.spool),
            entropy=drbg("host"),
            clock=self.loop.time,
            now=self.loop.time,
            first_round=lambda: 1,
        )
