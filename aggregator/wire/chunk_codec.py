"""The chunk in the messages that carry one, written and read without the generated classes' copies.

All of them hold it in field 2, so that it has one form here. It is what protobuf's deterministic serialisation writes,
and the only form that is read; whatever else means the same is left to the generic codec.

    12 <bytes of the chunk>  [08 <index>]  12 <bytes of the data>  <data>

Tags are `field number << 3 | wire type`; numbers are varints, as short as they can be; an index of 0 is not written.
"""

import re

from aggregator.wire.messages import Chunk

_CHUNK = _DATA = b"\x12"
_INDEX = b"\x08"
_INDEX_BITS = 32
_VARINT = rb"[\x80-\xff]{0,4}[\x00-\x7f]"
_HEAD = re.compile(_CHUNK + _VARINT + b"(?:" + _INDEX + b"(" + _VARINT + b"))?" + _DATA + _VARINT)


def encode_chunk(chunk: Chunk) -> bytes:
    """The message around a chunk, its data copied once; the caller has checked the bounds.

    Raises:
        TypeError, ValueError: index or data is of another type than its annotation, or the data is not contiguous.
    """
    return b"".join((_head(chunk.index, memoryview(chunk.data).nbytes), chunk.data))


def decode_chunk(message: bytes) -> Chunk | None:
    """The chunk of a message in the form above, its data a read-only view into `message`; None for any other bytes.

    The caller checks the bounds.
    """
    head = _HEAD.match(message)
    if head is None:
        return None
    index, start = _number(head[1] or b""), head.end()
    # To be in the form is to start with what `encode_chunk` would write: no length is believed before that.
    if index >> _INDEX_BITS or head[0] != _head(index, len(message) - start):
        return None
    return Chunk(index, memoryview(message)[start:])


def _head(index: int, size: int) -> bytes:
    fields = (_INDEX + _varint(index) if index else b"") + _DATA + _varint(size)
    return _CHUNK + _varint(len(fields) + size) + fields


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def _number(varint: bytes) -> int:
    return sum((octet & 0x7F) << 7 * place for place, octet in enumerate(varint))
