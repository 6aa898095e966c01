"""What secure rounds are measured against: a float32 sum that reads everything. In the benchmark's server only.

The same path as a masked input: the same gate and calls, chunks of the same size, staged in the same spool, added in a
thread once whole; a half-arrived upload never touches the sum. No keys, no checks of values, nothing to take off.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from time import monotonic, thread_time

import grpc
import numpy as np

from aggregator.bench.settings import FLOAT32_BYTES
from aggregator.crypto.certificates import Certificate, Role
from aggregator.errors import MessageError, OutOfTurn
from aggregator.local.updates import Update
from aggregator.rounds.events import EventLog
from aggregator.rounds.meter import Meter
from aggregator.service.rpc import Gate, GoOn, downward, upward
from aggregator.service.turns import Turn, Turns
from aggregator.storage.base import Spool, Staged
from aggregator.wire.chunks import ChunkPlan
from aggregator.wire.messages import Chunk, ResultMessage, ResultRequest, UploadHeader, UploadMessage, UploadReceipt
from aggregator.wire.operator_messages import RoundEvent, RoundReference
from aggregator.wire.vocabulary import EventKind, Step

SERVICE = "sangam.bench.Plain"
UPLOAD, WATCH, FETCH = (f"/{SERVICE}/{method}" for method in ("Upload", "Watch", "FetchResult"))


class PlainSum:
    """One plain round: open until as many whole uploads as there are survivors were added.

    Streams that break are not waited for: one that breaks early enough never reaches a method of the service.
    """

    def __init__(self, number: int, plan: ChunkPlan, survivors: int) -> None:
        self.number = number
        self.plan = plan
        self.survivors = survivors
        self.total: Update = np.zeros(plan.payload_bytes // FLOAT32_BYTES, np.float32)
        self.events = EventLog(monotonic)
        self.meter = Meter(thread_time)
        self.turn = asyncio.Lock()
        self._added = 0
        self.events.add(EventKind.STEP, Step.MASKED_INPUT, clients=survivors)

    def receive(self, staged: Staged, arrived: int, message: UploadMessage) -> None:
        """Stage one chunk."""
        if not isinstance(message.body, Chunk):
            raise MessageError("an upload has one header, then chunks")
        with self.meter.part("plain receive"):
            self.plan.check(arrived, message.body)
            staged.write(message.body.data)

    def add(self, staged: Staged) -> None:
        """Add a whole upload."""
        with self.meter.part("plain add"):
            for index in range(self.plan.chunks):
                start, size = self.plan.start(index), self.plan.size(index)
                target = self.total[start // FLOAT32_BYTES : (start + size) // FLOAT32_BYTES]
                np.add(target, np.frombuffer(staged.read(start, size), "<f4"), out=target)

    def count_one(self) -> None:
        """One more upload is in the sum; the last one closes the round."""
        self._added += 1
        if self._added == self.survivors:
            self.events.add(EventKind.CLOSED, Step.MASKED_INPUT, clients=self._added)


class PlainService:
    """The plain rounds of a server, one after the other.

    Args:
        plan: how every update is cut.
        survivors: how many uploads a round waits for.
    """

    def __init__(self, plan: ChunkPlan, survivors: int) -> None:
        self._new_sum = partial(PlainSum, plan=plan, survivors=survivors)
        self._spool: Spool
        self._turns: Turns
        self.round: PlainSum | None = None

    def mount(self, gate: Gate, spool: Spool, turns: Turns) -> grpc.GenericRpcHandler:
        """What `service.app.serve` takes, and calls before it listens: the gRPC handlers.

        Args:
            gate: who may call.
            spool: room for uploads that are half arrived.
            turns: whose turn it is.
        """
        self._spool, self._turns = spool, turns
        methods = {
            "Upload": upward(gate, Role.PARTICIPANT, UploadMessage, self.upload),
            "Watch": downward(gate, Role.OPERATOR, RoundReference, self.watch),
            "FetchResult": downward(gate, Role.OPERATOR, ResultRequest, self.fetch_result),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def watch(self, caller: Certificate, request: RoundReference) -> AsyncGenerator[RoundEvent, None]:
        """Open a round, and follow it to its end."""
        self.round = self._new_sum(request.round)
        async for event in self.round.events.follow():
            yield event

    async def upload(self, caller: Certificate, messages: AsyncIterator[UploadMessage], go_on: GoOn) -> UploadReceipt:
        """One update."""
        first = await anext(messages, None)
        if first is None or not isinstance(first.body, UploadHeader):
            raise MessageError("an upload starts with its header")
        summed = self._current(first.body.round)
        async with self._turns.turn(SERVICE, summed.plan.payload_bytes) as turn:
            await go_on(0)
            staged = await self._whole(caller, summed, messages, turn)
            await asyncio.shield(asyncio.create_task(_commit(summed, staged)))
        return UploadReceipt(already_accepted=False)

    async def _whole(
        self, caller: Certificate, summed: PlainSum, messages: AsyncIterator[UploadMessage], turn: Turn
    ) -> Staged:
        staged, arrived = self._spool.stage(), 0
        try:
            async for message in messages:
                summed.receive(staged, arrived, message)
                turn.progress()
                arrived += 1
            if arrived != summed.plan.chunks:
                raise MessageError(f"{caller.name} sent {arrived} of {summed.plan.chunks} chunks")
        except BaseException:
            staged.close()
            raise
        return staged

    async def fetch_result(self, caller: Certificate, request: ResultRequest) -> AsyncGenerator[ResultMessage, None]:
        """The sum, as float32 chunks without a header; it is then given up."""
        summed = self._current(request.round)
        for chunk in summed.plan.cut(summed.total.data):
            yield ResultMessage(chunk)
        self.round = None

    def _current(self, number: int) -> PlainSum:
        if self.round is None or self.round.number != number:
            raise OutOfTurn(f"plain round {number} is not open")
        return self.round


async def is_sum(parts: AsyncIterator[ResultMessage], expected: Update, plan: ChunkPlan) -> bool:
    """Whether a fetched sum is the expected one, value by value: whatever its order, a sum of such updates is exact.

    Raises:
        MessageError: something else than the plan's next chunk arrived.
    """
    index = 0
    async for part in parts:
        if not isinstance(part.body, Chunk):
            raise MessageError("a plain sum has chunks only")
        plan.check(index, part.body)
        start = plan.start(index) // FLOAT32_BYTES
        values = np.frombuffer(part.body.data, "<f4")
        if not np.array_equal(values, expected[start : start + values.size]):
            return False
        index += 1
    return index == plan.chunks


async def _commit(summed: PlainSum, staged: Staged) -> None:
    try:
        async with summed.turn:
            await asyncio.to_thread(summed.add, staged)
    finally:
        staged.close()
    summed.count_one()
