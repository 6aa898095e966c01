"""Both ends of a stream of chunks over insecure loopback, each a process of its own, for `test_chunk_serialisers`.

    python -m benchmarks.chunk_stream serve        prints its port, then serves until standard input ends
    python -m benchmarks.chunk_stream send PORT    for each line "ours" or "generated", sends all chunks and answers

The generated classes are used as this project's codec used them, and as is fastest of what was tried: fields are
assigned, bytes are made in the generator of requests and parsed in the handler. `UploadMessage(chunk=Chunk(...))`
copies the whole message once more, and so is no fair opponent.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import grpc

from aggregator.wire._pb import aggregation_pb2
from aggregator.wire.chunks import ChunkPlan
from aggregator.wire.codec import MESSAGE_BYTES_MAX, decode, encode
from aggregator.wire.messages import CHUNK_BYTES_MAX, Chunk, UploadMessage

PLAN: Final = ChunkPlan(256 << 20, CHUNK_BYTES_MAX)
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
)


def write_ours(chunk: Chunk) -> bytes:
    return encode(UploadMessage(chunk))


def read_ours(data: bytes) -> Chunk:
    body = decode(UploadMessage, data).body
    return body if isinstance(body, Chunk) else Chunk(-1, b"")


def write_generated(chunk: Chunk) -> bytes:
    message = aggregation_pb2.UploadMessage()
    message.chunk.index = chunk.index
    message.chunk.data = bytes(chunk.data)  # it takes nothing else
    return message.SerializeToString(deterministic=True)


def read_generated(data: bytes) -> Chunk:
    message = aggregation_pb2.UploadMessage()
    message.ParseFromString(data)
    return Chunk(message.chunk.index, message.chunk.data)


WAYS: Final = {"ours": (write_ours, read_ours), "generated": (write_generated, read_generated)}


def receiver(read: Callable[[bytes], Chunk]) -> Any:
    async def receive(stream: AsyncIterator[bytes], _: object) -> bytes:
        received = 0
        async for data in stream:
            PLAN.check(received, read(data))
            received += 1
        return str(received).encode()

    return grpc.stream_unary_rpc_method_handler(receive)


async def serve() -> None:
    server = grpc.aio.server(options=OPTIONS)
    methods = {way: receiver(read) for way, (_, read) in WAYS.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("chunks", methods),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


async def send(port: int) -> None:
    payload = memoryview(bytearray(b"\x5a") * PLAN.payload_bytes)

    def messages(way: str) -> Iterator[bytes]:
        return (WAYS[way][0](chunk) for chunk in PLAN.cut(payload))

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        while way := (await asyncio.to_thread(sys.stdin.readline)).strip():
            call: Any = channel.stream_unary(f"/chunks/{way}")
            print(int(await call(messages(way))), flush=True)


if __name__ == "__main__":
    asyncio.run(serve() if sys.argv[1] == "serve" else send(int(sys.argv[2])))
