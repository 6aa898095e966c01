"""What participants call: each method hands its messages to a task and passes on what the task says."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as installed_version
from typing import Any, Final

import grpc

from aggregator.crypto.certificates import Certificate, Role
from aggregator.errors import (
    Disconnected,
    MessageError,
    NotAdmitted,
    Overloaded,
    ParameterError,
    SangamError,
    VersionMismatch,
)
from aggregator.protocol.cohort import ClientId
from aggregator.rounds.driver import Driver
from aggregator.rounds.lines import Line
from aggregator.rounds.phase import Completed
from aggregator.rounds.task import Task
from aggregator.rounds.uploads import Upload, Uploads
from aggregator.service.admission import Admission, Place
from aggregator.service.announcing import Announcing
from aggregator.service.newest_streams import NewestStreams
from aggregator.service.results import kept_result_messages
from aggregator.service.rpc import ANY_ROLE, STALLED_S, Gate, GoOn, both_ways, downward, first, unary, upward, within
from aggregator.service.tasks import Tasks
from aggregator.service.turns import Turn, Turns
from aggregator.wire.messages import (
    OLDEST_VERSION,
    PROTOCOL_VERSION,
    Chunk,
    CiphertextsRequest,
    ClientMessage,
    Join,
    ProbeRequest,
    ResultMessage,
    ResultRequest,
    ServerInfo,
    ServerMessage,
    UploadHeader,
    UploadMessage,
    UploadReceipt,
)

PARTIES: Final = frozenset({Role.KEY_HOLDER, Role.AUDITOR})
MEMBERS: Final = PARTIES | {Role.PARTICIPANT}
UPLOADERS: Final = frozenset({Role.PARTICIPANT, Role.KEY_HOLDER})

SOFTWARE: Final = f"sangam {installed_version('sangam')}"


@dataclass(frozen=True, slots=True, eq=False)
class _Half:
    """One stream's upload, as `Admission` asks after it."""

    driver: Driver
    phase: Uploads[Any]
    upload: Upload
    streams: NewestStreams

    @property
    def key(self) -> tuple[str, int, ClientId]:
        return self.upload.header.task, self.upload.header.round, self.upload.client

    @property
    def bytes_left(self) -> int:
        return self.phase.bytes_left(self.upload)

    def is_expected(self) -> bool:
        return self.driver.awaits(self.phase, self.upload.client)

    def is_held(self) -> bool:
        return self.phase.holds(self.upload)

    def give_way(self, error: Overloaded) -> None:
        self.phase.abandon(self.upload)
        self.streams.end(self.key, error)


class AggregationService:
    """What participants call."""

    def __init__(self, tasks: Tasks, turns: Turns, admission: Admission) -> None:
        self._tasks = tasks
        self._turns = turns
        self._admission = admission
        self._uploading = NewestStreams()
        self._announcing = Announcing()
        self._joined_by: dict[Line, tuple[Task, Certificate]] = {}
        self._uploads: set[asyncio.Task[Any]] = set()
        self._draining = False

    def handlers(self, gate: Gate) -> grpc.GenericRpcHandler:
        """The gRPC handlers, each behind the roles that it is for, but for the probe."""
        methods = {
            "Probe": unary(gate, ANY_ROLE, ProbeRequest, self.probe),
            "Participate": both_ways(gate, MEMBERS, ClientMessage, self.participate),
            "Upload": upward(gate, UPLOADERS, UploadMessage, self.upload),
            "FetchResult": downward(gate, Role.PARTICIPANT, ResultRequest, self.fetch_result),
            "FetchCiphertexts": downward(gate, PARTIES, CiphertextsRequest, self.fetch_ciphertexts),
        }
        return grpc.method_handlers_generic_handler("sangam.v1.Aggregation", methods)

    def review(self, gate: Gate) -> None:
        """End the lines of sites that are revoked, expired or no longer in a roster that counts; they are told why."""
        for line, (task, site) in self._joined_by.items():
            try:
                gate.check(site)
                task.check_member(site)
            except NotAdmitted as error:
                line.close(error)

    async def drain(self) -> None:
        """Take no new uploads, and wait for those that are on their way."""
        self._draining = True
        if self._uploads:
            await asyncio.wait(self._uploads)

    async def probe(self, caller: Certificate, _: ProbeRequest) -> ServerInfo:
        """Who answers, and which protocol it speaks; for any role."""
        host = self._tasks.host
        roster = host.roster()
        return ServerInfo(
            oldest_version=OLDEST_VERSION,
            newest_version=PROTOCOL_VERSION,
            software=SOFTWARE,
            deployment=host.authority.deployment,
            roster_version=roster.version,
            in_roster=caller in roster.certificates,
            time_s=host.now(),
            caller=caller.name,
        )

    async def participate(
        self, caller: Certificate, messages: AsyncIterator[ClientMessage]
    ) -> AsyncGenerator[ServerMessage, None]:
        """One participant's control stream. It ends when the client ends it, errs, or opens a newer one."""
        task, line = await self._joined(caller, messages)
        self._joined_by[line] = task, caller
        reader = asyncio.create_task(self._read(task, caller, messages))
        reader.add_done_callback(lambda _: line.close())
        try:
            while (message := await line.receive()) is not None:
                async with self._announcing.turn(task.spec.name, caller.name, message.body):
                    yield message
                del message  # or a list of shares would stay until there is something new to say
            if line.error is not None:
                raise line.error
            if reader.done():
                reader.result()  # raises what the reader raised
        finally:
            del self._joined_by[line]
            task.lines.disconnect(line)
            reader.cancel()

    async def upload(self, caller: Certificate, messages: AsyncIterator[UploadMessage], go_on: GoOn) -> UploadReceipt:
        """One masked input: its header is looked at at once, its chunks come when it has room and its turn.

        A stream that breaks leaves what it brought for the next one with the same header, which is told from where to
        go on. What is refused is destroyed, and refused again: the first stream may have missed why.
        """
        header = (await first(messages)).body
        if not isinstance(header, UploadHeader):
            raise MessageError("an upload starts with its header")
        with self._on_its_way():
            return await self._take(caller, header, messages, go_on)

    @contextmanager
    def _on_its_way(self) -> Iterator[None]:
        """Be waited for when the server stops."""
        if self._draining:
            raise Disconnected("this server is stopping")
        own = asyncio.current_task()
        if own is None:
            raise ParameterError("an upload is a task of its own")
        self._uploads.add(own)
        try:
            yield
        finally:
            self._uploads.discard(own)

    async def _take(
        self, caller: Certificate, header: UploadHeader, messages: AsyncIterator[UploadMessage], go_on: GoOn
    ) -> UploadReceipt:
        driver = self._tasks.find(header.task).driver(header.round)
        self._announcing.answered(header.task, caller.name)
        opened = await driver.open_upload(driver.client_of(caller), header)
        if opened is None:
            return UploadReceipt(already_accepted=True)
        half = _Half(driver, *opened, self._uploading)
        with self._room(half) as place:
            async with self._uploading.stream(half.key), self._turns.turn(header.task, half.bytes_left) as turn:
                await go_on(half.upload.chunks)
                await self._receive(half, messages, turn, place)
                place.rests()
                if driver.durable:
                    turn.end()  # the next one's bytes may come while the disk takes these
                await driver.close_upload(half.phase, half.upload)
        return UploadReceipt(already_accepted=False)

    @contextmanager
    def _room(self, half: "_Half") -> Iterator[Place]:
        header = half.upload.header
        try:
            with self._admission.room(header.task, half.key, header.payload_bytes, half) as place:
                yield place
        except Overloaded:
            if not half.upload.chunks:  # what a server that restarted still holds stays
                half.phase.abandon(half.upload)
            raise

    async def fetch_result(self, caller: Certificate, request: ResultRequest) -> AsyncGenerator[ResultMessage, None]:
        """A closed round's sum, for participants of the roster, unless the task keeps it for its operator.

        A stream ends by name when the sum is kept no longer: by reading slowly a site cannot keep it in memory.
        """
        task = self._tasks.find(request.task)
        if task.spec.result_to_operator_only:
            raise NotAdmitted(f"the results of task {request.task} go to its operator only")
        found = partial(self._result, request.task, self._readable(caller, task, request))
        for message in kept_result_messages(found, request.first_chunk):
            yield message

    async def fetch_ciphertexts(
        self, caller: Certificate, request: CiphertextsRequest
    ) -> AsyncGenerator[ResultMessage, None]:
        """One client's ciphertexts, or their sum, while the round is in the step that shows them."""
        driver = self._tasks.find(request.task).driver(request.round)
        member = driver.client_of(caller)
        for index in range(request.first_chunk, driver.chunks):
            yield ResultMessage(await asyncio.to_thread(driver.chunk, member, request, index))

    def _result(self, task: str, number: int) -> Completed:
        return self._tasks.find(task).history.result(number)

    def _readable(self, caller: Certificate, task: Task, request: ResultRequest) -> int:
        """Which round is asked for: its sum is for its own roster, even under a certificate renewed since, and for the
        present one.
        """
        result = task.history.result(request.round, request.model_hash)
        try:
            self._tasks.host.roster().index_of(caller.fingerprint)
        except NotAdmitted:
            result.setting.roster.index_of(caller.fingerprint)
        return result.setting.terms.round

    async def _receive(self, half: "_Half", messages: AsyncIterator[UploadMessage], turn: Turn, place: Place) -> None:
        phase, upload = half.phase, half.upload
        place.begins()
        try:
            async for message in within(STALLED_S, messages):
                if not isinstance(message.body, Chunk):
                    raise MessageError("an upload has one header, then chunks")
                half.driver.receive(phase, upload, message.body)
                turn.progress()
                place.reached(upload.chunks)
        except MessageError as error:  # what a caller that has left brought is kept, a lie is not
            phase.refuse(upload, error)
            raise
        except Disconnected:
            raise
        except SangamError:
            phase.abandon(upload)
            raise

    async def _joined(self, caller: Certificate, messages: AsyncIterator[ClientMessage]) -> tuple[Task, Line]:
        join = (await first(messages)).body
        if not isinstance(join, Join):
            raise MessageError("a control stream starts with Join")
        version = common_version(join)
        task = self._tasks.find(join.task)
        return task, task.join(caller, version, join.roster_hash)

    async def _read(self, task: Task, site: Certificate, messages: AsyncIterator[ClientMessage]) -> None:
        async for message in messages:
            self._announcing.answered(task.spec.name, site.name)
            await task.deliver(site, message)
            del message  # or what a client said last would stay until it says something new


def common_version(join: Join) -> int:
    """The newest version of the protocol that both sides speak.

    Raises:
        VersionMismatch: there is none; both ranges are named.
    """
    version = min(join.newest_version, PROTOCOL_VERSION)
    if version < max(join.oldest_version, OLDEST_VERSION):
        raise VersionMismatch(
            f"the client speaks protocol versions {join.oldest_version} to {join.newest_version}, "
            f"this server {OLDEST_VERSION} to {PROTOCOL_VERSION}"
        )
    return version
