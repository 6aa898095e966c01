"""The methods of the two services: each hands its message to a task and passes on what the task says."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import TypeVar

import grpc

from aggregator.crypto.certificates import Certificate, Role, check_name
from aggregator.errors import MessageError, NotAdmitted
from aggregator.protocol.cohort import ClientId
from aggregator.rounds.phase import Completed
from aggregator.rounds.task import Task
from aggregator.service.admission import Admission
from aggregator.service.rpc import Gate, GoOn, both_ways, downward, unary, upward
from aggregator.service.tasks import Tasks
from aggregator.wire.messages import (
    PROTOCOL_VERSION,
    Chunk,
    ClientMessage,
    Join,
    ResultHeader,
    ResultMessage,
    ResultRequest,
    RoundEvent,
    RoundReference,
    RoundRequest,
    RoundStarted,
    ServerMessage,
    TaskCreated,
    UploadHeader,
    UploadMessage,
    UploadReceipt,
)
from aggregator.wire.messages import Task as TaskSpec
from native.pack import pack

Message = TypeVar("Message")


class AggregationService:
    """What participants call."""

    def __init__(self, tasks: Tasks, admission: Admission) -> None:
        self._tasks = tasks
        self._admission = admission

    def handlers(self, gate: Gate) -> grpc.GenericRpcHandler:
        """The gRPC handlers, each behind the participant's role."""
        role = Role.PARTICIPANT
        methods = {
            "Participate": both_ways(gate, role, ClientMessage, self.participate),
            "Upload": upward(gate, role, UploadMessage, self.upload),
            "FetchResult": downward(gate, role, ResultRequest, self.fetch_result),
        }
        return grpc.method_handlers_generic_handler("sangam.v1.Aggregation", methods)

    async def participate(
        self, caller: Certificate, messages: AsyncIterator[ClientMessage]
    ) -> AsyncIterator[ServerMessage]:
        """One participant's control stream. It ends when the client ends it, errs, or opens a newer one."""
        client = self._client(caller)
        task = await self._joined(messages)
        line = task.join(client)
        reader = asyncio.create_task(self._read(task, client, messages))
        reader.add_done_callback(lambda _: line.close())
        try:
            while (message := await line.receive()) is not None:
                yield message
            if line.error is not None:
                raise line.error
            if reader.done():
                reader.result()  # raises what the reader raised
        finally:
            task.lines.disconnect(line)
            reader.cancel()

    async def upload(self, caller: Certificate, messages: AsyncIterator[UploadMessage], go_on: GoOn) -> UploadReceipt:
        """One masked input: its header is looked at at once, its chunks come when it is this upload's turn."""
        header = (await _first(messages)).body
        if not isinstance(header, UploadHeader):
            raise MessageError("an upload starts with its header")
        driver = self._tasks.find(header.task).driver(header.round)
        opened = await driver.open_upload(self._client(caller), header)
        if opened is None:
            return UploadReceipt(already_accepted=True)
        phase, upload = opened
        with ExitStack() as half_arrived:
            half_arrived.callback(phase.abandon, upload)
            async with self._admission.turn(header.payload_bytes) as turn:
                await go_on()
                async for message in messages:
                    if not isinstance(message.body, Chunk):
                        raise MessageError("an upload has one header, then chunks")
                    driver.receive(phase, upload, message.body)
                    turn.progress()
                half_arrived.pop_all()  # whole: from here on the driver has it, even if the caller leaves
                await driver.close_upload(phase, upload)
        return UploadReceipt(already_accepted=False)

    async def fetch_result(self, caller: Certificate, request: ResultRequest) -> AsyncIterator[ResultMessage]:
        """A closed round's sum, for participants of the roster, unless the task keeps it for its operator."""
        self._client(caller)
        task = self._tasks.find(request.task)
        if task.spec.result_to_operator_only:
            raise NotAdmitted(f"the results of task {request.task} go to its operator only")
        for message in _result(task.result(request.round)):
            yield message

    def _client(self, caller: Certificate) -> ClientId:
        return self._tasks.host.roster.index_of(caller.fingerprint)

    async def _joined(self, messages: AsyncIterator[ClientMessage]) -> Task:
        join = (await _first(messages)).body
        if not isinstance(join, Join):
            raise MessageError("a control stream starts with Join")
        if join.protocol_version != PROTOCOL_VERSION:
            raise MessageError(
                f"the client speaks protocol version {join.protocol_version}, this server speaks {PROTOCOL_VERSION}"
            )
        return self._tasks.find(join.task)

    async def _read(self, task: Task, client: ClientId, messages: AsyncIterator[ClientMessage]) -> None:
        async for message in messages:
            await task.deliver(client, message)


class OperatorService:
    """What operators call."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def handlers(self, gate: Gate) -> grpc.GenericRpcHandler:
        """The gRPC handlers, each behind the operator's role."""
        role = Role.OPERATOR
        methods = {
            "CreateTask": unary(gate, role, TaskSpec, self.create_task),
            "StartRound": unary(gate, role, RoundRequest, self.start_round),
            "WatchRound": downward(gate, role, RoundReference, self.watch_round),
            "FetchResult": downward(gate, role, ResultRequest, self.fetch_result),
        }
        return grpc.method_handlers_generic_handler("sangam.v1.Operator", methods)

    async def create_task(self, caller: Certificate, spec: TaskSpec) -> TaskCreated:
        """Create a task, or find the very same one."""
        check_name("task", spec.name)
        return TaskCreated(existed=self._tasks.create(spec))

    async def start_round(self, caller: Certificate, request: RoundRequest) -> RoundStarted:
        """Open the next round of a task."""
        return RoundStarted(self._tasks.find(request.task).start_round(request.model_hash))

    async def watch_round(self, caller: Certificate, request: RoundReference) -> AsyncIterator[RoundEvent]:
        """The events of one round, from its beginning until it ends."""
        async for event in self._tasks.find(request.task).events(request.round).follow():
            yield event

    async def fetch_result(self, caller: Certificate, request: ResultRequest) -> AsyncIterator[ResultMessage]:
        """A closed round's sum."""
        for message in _result(self._tasks.find(request.task).result(request.round)):
            yield message


def _result(result: Completed) -> Iterator[ResultMessage]:
    """Header and chunks; each chunk is packed when its turn comes."""
    terms, total = result.setting.terms, result.total
    plan = terms.parameters.result_plan
    names = tuple(result.setting.roster.name(client) for client in result.survivors)
    yield ResultMessage(ResultHeader(terms.to_message(), names, plan.payload_bytes))
    for index in range(plan.chunks):
        words = pack(total[plan.words(index)], terms.parameters.ring_bits)
        yield ResultMessage(Chunk(index, words.data.toreadonly()))


async def _first(messages: AsyncIterator[Message]) -> Message:
    async for message in messages:
        return message
    raise MessageError("the stream ended before its first message")
