"""Bytes to messages and back: the one place where a length, a range or a count from the wire is checked.

The annotations of `messages` are the schema; this file is the rule that reads them. A message longer than its bounds
allow is refused before it is parsed, because protobuf's parser builds every sub-message that it meets: 2 bytes on the
wire become up to 74 in memory. A count is refused before one item becomes an object here. Unknown fields are ignored,
as protobuf does, so that a later version can add some; of a oneof set twice, the last one counts.

Chunks, which are nearly all that travels, go past the generated classes where they can: see `chunk_codec`.
"""

from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints

from google.protobuf.message import DecodeError, EncodeError, Message

from aggregator.errors import MessageError
from aggregator.wire._pb import aggregation_pb2, operator_pb2
from aggregator.wire.bounds import Bound, Count, Length, check
from aggregator.wire.chunk_codec import decode_chunk, encode_chunk
from aggregator.wire.messages import Chunk, ResultMessage, UploadMessage

MESSAGE_BYTES_MAX = 24 << 20  # for gRPC's limit: no message of `messages` is longer
SPARE_BYTES = 64 << 10  # for the unknown fields of a later version
CHUNK_CARRIERS: Final = frozenset({UploadMessage, ResultMessage})
_SCALAR_BYTES_MAX = 10  # a 64-bit varint; a double has 8
_FRAME_BYTES_MAX = 7  # tag (2 bytes up to field number 2,047) and length (5 bytes up to 2^35)

T = TypeVar("T")


def decode(kind: type[T], data: bytes) -> T:
    """Parse and check one message. A chunk's data may be a view into `data`, which it keeps alive.

    Raises:
        MessageError: too long, not protobuf, an empty oneof, or a field outside its bounds (the field is named).
    """
    schema: Any = kind
    most = bytes_max(schema) + SPARE_BYTES
    if len(data) > most:
        raise MessageError(f"{kind.__name__}: {len(data)} bytes, expected at most {most}")
    value: T
    if schema in CHUNK_CARRIERS and (chunk := decode_chunk(data)) is not None:
        _check_fields(chunk)
        value = schema(chunk)
        return value
    message = _generated(schema)()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise MessageError(f"{kind.__name__}: not a protobuf message") from None
    value = _read(schema, message)
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
        message = _generated(value.__class__)()
        _write(value, message)
        return message.SerializeToString(deterministic=True)
    except (EncodeError, AttributeError, TypeError, ValueError) as error:
        raise MessageError(f"{type(value).__name__}: {error}") from None


@cache
def bytes_max(kind: Any) -> int:
    """Bytes that no valid encoding of this message exceeds, from the bounds of its fields."""
    return sum(_field_bytes_max(field) for field in _schema(kind))


def _field_bytes_max(field: "_Field") -> int:
    if field.choices:
        return _FRAME_BYTES_MAX + max(bytes_max(choice) for choice in field.choices.values())
    lengths = [bound.most for bound in field.bounds if isinstance(bound, Length)]
    counts = [bound.most for bound in field.bounds if isinstance(bound, Count)]
    item = bytes_max(field.item) if field.item else sum(lengths) or _SCALAR_BYTES_MAX
    return (_FRAME_BYTES_MAX + item) * (sum(counts) or 1)


@dataclass(frozen=True, slots=True)
class _Field:
    """One field's schema, read from its annotation."""

    name: str
    bounds: tuple[Bound, ...]
    item: type | None  # the message class of a nested or repeated field
    repeated: bool
    choices: dict[str, type]  # the message classes of a oneof, by the name of their member


@cache
def _schema(kind: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_field(kind, field.name, hints[field.name]) for field in fields(kind))


def _field(kind: Any, name: str, hint: object) -> _Field:
    bounds: tuple[Bound, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *found = get_args(hint)
        bounds = tuple(found)
    oneof = _generated(kind).DESCRIPTOR.oneofs_by_name.get(name)
    if oneof is not None:
        classes = {choice.__name__: choice for choice in get_args(hint)}
        choices = {member.name: classes[member.message_type.name] for member in oneof.fields if member.message_type}
        return _Field(name, bounds, None, repeated=False, choices=choices)
    repeated = get_origin(hint) is tuple
    item = get_args(hint)[0] if repeated else hint
    nested = item if isinstance(item, type) and is_dataclass(item) else None
    return _Field(name, bounds, nested, repeated=repeated, choices={})


@cache
def _generated(kind: Any) -> type[Message]:
    for module in (aggregation_pb2, operator_pb2):
        if hasattr(module, kind.__name__):
            found: type[Message] = getattr(module, kind.__name__)
            return found
    raise MessageError(f"{kind.__name__} is not a message")


def _read(kind: Any, message: Any) -> Any:
    values = {}
    for field in _schema(kind):
        values[field.name] = value = _read_field(kind, field, message)
        _check(kind, field, value)
    return kind(**values)


def _check(kind: type, field: _Field, value: object) -> None:
    for bound in field.bounds:
        check(f"{kind.__name__}.{field.name}", bound, value)


def _check_fields(value: Any) -> None:
    kind: Any = type(value)
    for field in _schema(kind):
        _check(kind, field, getattr(value, field.name))


def _check_count(kind: type, field: _Field, value: Any) -> None:
    """Before items become objects: 24 MiB of empty sub-messages would be 12 million of them."""
    for bound in field.bounds:
        if isinstance(bound, Count):
            bound.check(f"{kind.__name__}.{field.name}", value)


def _read_field(kind: type, field: _Field, message: Any) -> object:
    if field.choices:
        return _read_choice(kind, field, message)
    value = getattr(message, field.name)
    if field.repeated:
        _check_count(kind, field, value)
        return tuple(_read(field.item, item) for item in value) if field.item else tuple(value)
    if field.item is None:
        return value
    if not message.HasField(field.name):
        raise MessageError(f"{kind.__name__}.{field.name} is missing")
    return _read(field.item, value)


def _read_choice(kind: type, field: _Field, message: Any) -> object:
    chosen = message.WhichOneof(field.name)
    if chosen is None:
        raise MessageError(f"{kind.__name__} is empty")
    return _read(field.choices[chosen], getattr(message, chosen))


def _write(value: Any, message: Any) -> None:
    kind: Any = type(value)
    for field in _schema(kind):
        item = getattr(value, field.name)
        _check(kind, field, item)
        if field.choices:
            target = getattr(message, _member(kind, field, item))
            target.SetInParent()
            _write(item, target)
        elif field.item and field.repeated:
            for entry in item:
                _write(entry, getattr(message, field.name).add())
        elif field.item:
            getattr(message, field.name).SetInParent()
            _write(item, getattr(message, field.name))
        elif field.repeated:
            getattr(message, field.name).extend(item)
        else:
            setattr(message, field.name, bytes(item) if isinstance(item, memoryview) else item)


def _member(kind: type, field: _Field, item: object) -> str:
    for name, choice in field.choices.items():
        if type(item) is choice:
            return name
    raise MessageError(f"{kind.__name__}.{field.name} cannot be a {type(item).__name__}")
