"""Sums of TenSEAL's CKKS vectors for operators: streamed in one after the other, streamed out, nothing kept.

Off unless whoever runs the server switches it on: docs/ckks.md says what it gives away. Of a call there are in memory
the sum (64 bytes a value, all sums within one budget) and, in the spool, the one vector that comes or the sum that
goes.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final, TypeVar

import grpc

from aggregator.crypto.certificates import Certificate, Role
from aggregator.errors import Disconnected, MessageError, NotOffered, Overloaded, ParameterError, StorageError
from aggregator.protocol import ckks
from aggregator.protocol.spread import Each
from aggregator.service.rpc import Gate, both_ways
from aggregator.service.turns import Turn, Turns
from aggregator.storage.base import Spool, Staged
from aggregator.wire.chunks import ChunkPlan
from aggregator.wire.ckks_messages import (
    VECTORS_MAX,
    CkksAnswer,
    CkksGoOn,
    CkksHeader,
    CkksMessage,
    CkksSum,
    CkksVector,
)
from aggregator.wire.messages import CHUNK_BYTES_MAX, Chunk

T = TypeVar("T")

IDLE_S: Final = 300.0  # a platform may wait for its next client, but not hold a sum's memory for ever
MIB: Final = 1 << 20


class CkksService:
    """What operators call who bring vectors of their own.

    Args:
        spool: room for what comes and goes.
        turns: whose vector may come.
        each: what ciphertexts are spread with.
        budget_bytes: memory for all sums together; 0 switches the service off.
        idle_s: how long a call waits for the next message.
    """

    def __init__(self, spool: Spool, turns: Turns, each: Each, budget_bytes: int, idle_s: float = IDLE_S) -> None:
        self._spool = spool
        self._turns = turns
        self._each = each
        self._budget_bytes = budget_bytes
        self._idle_s = idle_s
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Memory of the sums that are being made now."""
        return self._held_bytes

    def handlers(self, gate: Gate) -> grpc.GenericRpcHandler:
        """The gRPC handlers, each behind the operator's role."""
        methods = {"Sum": both_ways(gate, Role.OPERATOR, CkksMessage, self.sum)}
        return grpc.method_handlers_generic_handler("sangam.v1.Ckks", methods)

    async def sum(self, caller: Certificate, messages: AsyncIterator[CkksMessage]) -> AsyncGenerator[CkksAnswer, None]:
        """One sum. The first vector that is refused ends it."""
        if not self._budget_bytes:
            raise NotOffered(
                "this server does not sum CKKS vectors; whoever runs it can switch that on: sangam serve --ckks"
            )
        header = await self._next(messages)
        if not isinstance(header, CkksHeader):
            raise MessageError("a sum of CKKS vectors starts with its header")
        staged = self._spool.stage()
        try:
            with self._room(header.values):
                total, vectors = ckks.Total(header.values), 0
                yield CkksAnswer(CkksGoOn(0))
                while (vector := await self._next(messages)) is not None:
                    async with aclosing(self._added(caller, total, vectors, vector, messages)) as answers:
                        async for answer in answers:
                            yield answer
                    vectors += 1
                if not vectors:
                    raise MessageError("a sum of no vectors was asked for")
                await _in_thread(_store, total, staged)
                del total
            plan = ChunkPlan(ckks.sum_bytes(header.values), CHUNK_BYTES_MAX)
            yield CkksAnswer(CkksSum(vectors, plan.payload_bytes))
            for index in range(plan.chunks):
                yield CkksAnswer(Chunk(index, staged.read(plan.start(index), plan.size(index))))
        finally:
            staged.close()

    async def _added(
        self,
        caller: Certificate,
        total: ckks.Total,
        index: int,
        vector: object,
        messages: AsyncIterator[CkksMessage],
    ) -> AsyncGenerator[CkksAnswer, None]:
        """Take one vector in: says when its turn has come, and when it is in the sum."""
        staged = self._spool.stage()
        try:
            with _named(index):
                plan = _plan(vector, index, total.entries)
            async with self._turns.turn(f"ckks {caller.name}", plan.payload_bytes) as turn:
                yield CkksAnswer(CkksGoOn(index))
                with _named(index):
                    await self._receive(plan, messages, turn, staged)
            with _named(index):
                await _in_thread(total.add_stored, staged, plan.payload_bytes, self._each)
            yield CkksAnswer(CkksGoOn(index + 1))
        finally:
            staged.close()

    async def _receive(self, plan: ChunkPlan, messages: AsyncIterator[CkksMessage], turn: Turn, staged: Staged) -> None:
        """Stage all chunks. If the disk fails the rest still comes: who is cut off while writing never hears why."""
        failed: StorageError | None = None
        for index in range(plan.chunks):
            chunk = await self._next(messages)
            if not isinstance(chunk, Chunk):
                raise MessageError(f"{index} of {plan.chunks} chunks came")
            plan.check(index, chunk)
            turn.progress()
            try:
                if failed is None:
                    staged.write(chunk.data)
            except StorageError as error:
                failed = error
        if failed is not None:
            raise failed

    async def _next(self, messages: AsyncIterator[CkksMessage]) -> object:
        """The next message's body; None at the stream's end."""
        try:
            async with asyncio.timeout(self._idle_s):
                message = await anext(messages, None)
        except TimeoutError:
            raise Disconnected(f"nothing has come for {self._idle_s:g} s") from None
        return None if message is None else message.body

    @contextmanager
    def _room(self, values: int) -> Iterator[None]:
        """Memory for one sum, before any of it is allocated."""
        wanted, budget = ckks.memory_bytes(values), self._budget_bytes
        if wanted > budget:
            raise ParameterError(
                f"a sum of {values} values takes {wanted // MIB} MiB, this server has {budget // MIB} (ckks_mib)"
            )
        if self._held_bytes + wanted > budget:
            raise Overloaded(f"other CKKS sums hold {self._held_bytes // MIB} of {budget // MIB} MiB: later")
        self._held_bytes += wanted
        try:
            yield
        finally:
            self._held_bytes -= wanted


def _plan(vector: object, index: int, values: int) -> ChunkPlan:
    """How a vector comes. MessageError: it is none, longer than one can be, or one too many."""
    if not isinstance(vector, CkksVector):
        raise MessageError("its length must come first; no more chunks were expected before it")
    if index >= VECTORS_MAX:
        raise MessageError(f"one sum has at most {VECTORS_MAX} vectors")
    most = ckks.vector_bytes_max(values)
    if vector.payload_bytes > most:
        raise MessageError(f"{vector.payload_bytes} bytes, a vector of {values} values has at most {most}")
    return ChunkPlan(vector.payload_bytes, CHUNK_BYTES_MAX)


def _store(total: ckks.Total, staged: Staged) -> None:
    for piece in total.pieces():
        staged.write(piece)


@contextmanager
def _named(index: int) -> Iterator[None]:
    """What is wrong with a vector is said with its index."""
    try:
        yield
    except MessageError as error:
        raise MessageError(f"vector {index}: {str(error).removeprefix('vector: ')}") from None


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Work to its end, even if the caller leaves meanwhile: only then is the memory given back that it works on."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.exception()  # nobody is left to be told
        raise
