"""Sums of TenSEAL's CKKS vectors, for a platform that makes them already; docs/ckks.md says what that protects.

Nothing here encrypts or decrypts: bytes of `CKKSVector.serialize()` go up, bytes for `ckks_vector_from` come down.
"""

from collections.abc import Iterable
from itertools import chain

from aggregator.crypto.seal_format import vector_values
from aggregator.errors import MessageError, ParameterError
from aggregator.protocol import ckks
from aggregator.wire.chunks import ChunkPlan
from aggregator.wire.ckks_messages import CkksAnswer, CkksGoOn, CkksHeader, CkksMessage, CkksSum, CkksVector
from aggregator.wire.messages import CHUNK_BYTES_MAX, Chunk
from clients.transport import GrpcChannel, GrpcStream


async def sum_vectors(channel: GrpcChannel, vectors: Iterable[bytes]) -> bytes:
    """See `Operator.sum_ckks`. Memory: one vector and the sum."""
    waiting = iter(vectors)
    first = next(waiting, None)
    if first is None:
        raise ParameterError("there are no vectors to sum")
    values = vector_values(first)
    async with channel.stream("/sangam.v1.Ckks/Sum", CkksAnswer) as stream:
        await _say(stream, CkksHeader(values), 0)
        count = 0
        for vector in chain([first], waiting):
            await _send(stream, count, vector)
            count += 1
        await stream.done()
        return await _collect(stream, count, values)


async def _send(stream: GrpcStream[CkksAnswer], index: int, vector: bytes) -> None:
    if not vector:
        raise ParameterError(f"vector {index} is empty")
    await _say(stream, CkksVector(len(vector)), index)
    for chunk in ChunkPlan(len(vector), CHUNK_BYTES_MAX).cut(memoryview(vector)):
        await stream.send(CkksMessage(chunk))
    await _told_to_go_on(stream, index + 1)


async def _say(stream: GrpcStream[CkksAnswer], body: CkksHeader | CkksVector, vectors: int) -> None:
    await stream.send(CkksMessage(body))
    await _told_to_go_on(stream, vectors)


async def _told_to_go_on(stream: GrpcStream[CkksAnswer], vectors: int) -> None:
    """Nothing is written before: a write to a call that has ended may hide how it ended."""
    answer = (await stream.receive()).body
    if answer != CkksGoOn(vectors):
        raise MessageError(f"expected to go on after {vectors} vectors, the server sent {type(answer).__name__}")


async def _collect(stream: GrpcStream[CkksAnswer], vectors: int, values: int) -> bytes:
    """The sum's bytes; its length is known before the server says it."""
    plan = ChunkPlan(ckks.sum_bytes(values), CHUNK_BYTES_MAX)
    answer = (await stream.receive()).body
    if answer != CkksSum(vectors, plan.payload_bytes):
        raise MessageError(
            f"expected a sum of {vectors} vectors in {plan.payload_bytes} bytes, the server sent another"
        )
    data = bytearray()
    for index in range(plan.chunks):
        chunk = (await stream.receive()).body
        if not isinstance(chunk, Chunk):
            raise MessageError(f"{index} of {plan.chunks} chunks of the sum came")
        plan.check(index, chunk)
        data += chunk.data
    return bytes(data)
