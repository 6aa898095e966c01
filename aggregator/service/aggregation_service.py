"""What participants call: each method hands its messages to a task and passes on what the task says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import TypeVar

import grpc

from aggregator.crypto.certificates import Certificate, Role
from aggregator.errors import MessageError, NotAdmitted, VersionMismatch
from aggregator.rounds.lines import Line
from aggregator.rounds.task import Task
from aggregator.service.admission import Admission
from aggregator.service.results import result_messages
from aggregator.service.rpc import Gate, GoOn, both_ways, downward, upward
from aggregator.service.tasks import Tasks
from aggregator.wire.messages import (
    OLDEST_VERSION,
    PROTOCOL_VERSION,
    Chunk,
    ClientMessage,
    Join,
    ResultMessage,
    ResultRequest,
    ServerMessage,
    UploadHeader,
    UploadMessage,
    UploadReceipt,
)

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
        task, line = await self._joined(caller, messages)
        reader = asyncio.create_task(self._read(task, caller, messages))
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
        opened = await driver.open_upload(driver.client_of(caller), header)
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
        self._tasks.host.roster().index_of(caller.fingerprint)
        task = self._tasks.find(request.task)
        if task.spec.result_to_operator_only:
            raise NotAdmitted(f"the results of task {request.task} go to its operator only")
        for message in result_messages(task.result(request.round)):
            yield message

    async def _joined(self, caller: Certificate, messages: AsyncIterator[ClientMessage]) -> tuple[Task, Line]:
        join = (await _first(messages)).body
        if not isinstance(join, Join):
            raise MessageError("a control stream starts with Join")
        version = common_version(join)
        task = self._tasks.find(join.task)
        return task, task.join(caller, version)

    async def _read(self, task: Task, site: Certificate, messages: AsyncIterator[ClientMessage]) -> None:
        async for message in messages:
            await task.deliver(site, message)


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


async def _first(messages: AsyncIterator[Message]) -> Message:
    async for message in messages:
        return message
    raise MessageError("the stream ended before its first message")
