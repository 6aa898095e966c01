"""Bytes to messages and back: the one place where a length, a range or a count from the wire is checked.

The annotations of `messages` are the schema; this file is the rule that reads them. A message longer than its bounds
allow is refused before it is parsed, because protobuf's parser builds every sub-message that it meets: 2 bytes on the
wire become up to 74 in memory. A count is refused before one item becomes an object here. Unknown fields are ignored,
as protobuf does, so that a later version can add some; of a oneof set twice, the last one counts.

Chunks, which are nearly all that travels, go past the generated classes where they can: see `chunk_codec`.
"""

from collections import deque
from functools import cache
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError, EncodeError

from aggregator.errors import MessageError
from aggregator.wire.bounds import Count, Length
from aggregator.wire.chunk_codec import decode_chunk, encode_chunk
from aggregator.wire.ckks_messages import CkksAnswer, CkksMessage
from aggregator.wire.messages import (
    Chunk,
    FrozenList,
    ResultMessage,
    RoundClosed,
    RoundOpened,
    ServerMessage,
    Survivors,
    UploadMessage,
)
from aggregator.wire.schema import Field, generated, schema
from aggregator.wire.translate import reader, writer

MESSAGE_BYTES_MAX = 24 << 20  # for gRPC's limit: no message of `messages` is longer
SPARE_BYTES = 64 << 10  # for the unknown fields of a later version
CHUNK_CARRIERS: Final = frozenset({UploadMessage, ResultMessage, CkksMessage, CkksAnswer})
TOLD_TO_ALL: Final = frozenset({RoundOpened, Survivors, FrozenList, RoundClosed})  # one object for all clients
_SCALAR_BYTES_MAX = 10  # a 64-bit varint; a double has 8
_FRAME_BYTES_MAX = 7  # tag (2 bytes up to field number 2,047) and length (5 bytes up to 2^35)

_TOLD: Final[deque[tuple[int, object, bytes]]] = deque(maxlen=2)  # round, body, bytes: a roster leaves with its round

T = TypeVar("T")


def decode(kind: type[T], data: bytes) -> T:
    """Parse and check one message. A chunk's data may be a view into `data`, which it keeps alive.

    Raises:
        MessageError: too long, not protobuf, an empty oneof, or a field outside its bounds (the field is named).
    """
    cls: Any = kind
    most = bytes_max(cls) + SPARE_BYTES
    if len(data) > most:
        raise MessageError(f"{kind.__name__}: {len(data)} bytes, expected at most {most}")
    value: T
    if cls in CHUNK_CARRIERS and (chunk := decode_chunk(data)) is not None:
        _check_fields(chunk)
        value = cls(chunk)
        return value
    message = generated(cls)()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise MessageError(f"{kind.__name__}: not a protobuf message") from None
    value = reader(cls)(message)
    return value


def encode(value: Any) -> bytes:
    """Check and serialise one message; a value outside its bounds never leaves.

    Raises:
        MessageError: a field is outside its bounds, or of another type than its annotation.
    """
    try:
        if type(value) in CHUNK_CARRIERS and type(value.body) is Chunk:
            _check_fields(value.body)
            return encode_chunk(value.body)
        if type(value) is ServerMessage and type(value.body) in TOLD_TO_ALL:
            return _told_to_all(value)
        return _serialised(value)
    except (EncodeError, AttributeError, TypeError, ValueError) as error:
        raise MessageError(f"{type(value).__name__}: {error}") from None


def _serialised(value: Any) -> bytes:
    message = generated(value.__class__)()
    writer(value.__class__)(value, message)
    return message.SerializeToString(deterministic=True)


def _told_to_all(value: ServerMessage) -> bytes:
    """The very same bytes for each client: of a thousand, each waits for its line, and a roster has 0.7 MB."""
    for number, body, data in tuple(_TOLD):
        if body is value.body and number == value.round:
            return data
    data = _serialised(value)
    _TOLD.append((value.round, value.body, data))
    return data


@cache
def bytes_max(kind: Any) -> int:
    """Bytes that no valid encoding of this message exceeds, from the bounds of its fields."""
    return sum(_field_bytes_max(field) for field in schema(kind))


def _field_bytes_max(field: "Field") -> int:
    if field.choices:
        return _FRAME_BYTES_MAX + max(bytes_max(choice) for choice in field.choices.values())
    lengths = [bound.most for bound in field.bounds if isinstance(bound, Length)]
    counts = [bound.most for bound in field.bounds if isinstance(bound, Count)]
    item = bytes_max(field.item) if field.item else sum(lengths) or _SCALAR_BYTES_MAX
    return (_FRAME_BYTES_MAX + item) * (sum(counts) or 1)


def _check_fields(value: Any) -> None:
    kind: Any = type(value)
    for field in schema(kind):
        field.check(getattr(value, field.name))
