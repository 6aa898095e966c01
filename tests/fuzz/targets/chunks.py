"""Chunks, which go past protobuf: whatever the short way reads, the generated classes read alike, and the other way."""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import DecodeError

from aggregator.errors import MessageError
from aggregator.wire import codec
from aggregator.wire.chunk_codec import decode_chunk, encode_chunk
from aggregator.wire.messages import Chunk
from aggregator.wire.schema import generated
from tests.fuzz.target import Target

KINDS: Final[list[Any]] = sorted(codec.CHUNK_CARRIERS, key=lambda kind: kind.__name__)


def run(data: bytes) -> None:
    """The first byte says which of the messages that carry chunks."""
    kind, data = (KINDS[data[0] % len(KINDS)] if data else KINDS[0]), data[1:]
    chunk = decode_chunk(data)
    if chunk is not None:
        assert encode_chunk(chunk) == data
    message = generated(kind)()
    try:
        message.ParseFromString(data)
    except DecodeError:
        assert chunk is None
        return
    try:
        value = codec.decode(kind, data)
    except MessageError:
        return
    if isinstance(value.body, Chunk):
        assert (value.body.index, bytes(value.body.data)) == (message.chunk.index, message.chunk.data)


def seeds() -> Iterator[bytes]:
    """Short and long chunks, early and late ones."""
    for number in range(len(KINDS)):
        for index, size in ((0, 1), (1, 200), (300, 20_000), (2**31, 1)):
            yield bytes([number]) + encode_chunk(Chunk(index, bytes(size)))


TARGET: Final = Target("chunks", run, seeds, share=300)
