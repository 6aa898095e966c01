"""Bytes to messages and back: the one place where a length, a range or a count from the wire is checked.

The annotations of `messages` are the schema; this file is the rule that reads them. A message longer than its bounds
allow is refused before it is parsed, because protobuf's parser builds every sub-message that it meets: 2 bytes on the
wire become up to 74 in memory. A count is refused before one item becomes an object here. Unknown fields are ignored,
as protobuf does, so that a later version can add some; of a oneof set twice, the last one counts.

Chunks, which are nearly all that travels, go past the generated classes where they can: see `chunk_codec`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Final, TypeAlias, TypeVar, cast, get_args, get_origin, get_type_hints

from google.protobuf.message import DecodeError, EncodeError, Message

from aggregator.errors import MessageError
from aggregator.wire._pb import aggregation_pb2, operator_pb2
from aggregator.wire.bounds import Bound, Count, Length, check
from aggregator.wire.chunk_codec import decode_chunk, encode_chunk
from aggregator.wire.messages import (
    Chunk,
    ResultMessage,
    RoundClosed,
    RoundOpened,
    ServerMessage,
    Survivors,
    UploadMessage,
)

MESSAGE_BYTES_MAX = 24 << 20  # for gRPC's limit: no message of `messages` is longer
SPARE_BYTES = 64 << 10  # for the unknown fields of a later version
CHUNK_CARRIERS: Final = frozenset({UploadMessage, ResultMessage})
TOLD_TO_ALL: Final = frozenset({RoundOpened, Survivors, RoundClosed})  # one object for all clients of a round
_SCALAR_BYTES_MAX = 10  # a 64-bit varint; a double has 8
_FRAME_BYTES_MAX = 7  # tag (2 bytes up to field number 2,047) and length (5 bytes up to 2^35)

LONG = 256  # items, of which a list is thought to be told to many
_SHARED: Final[deque[tuple[str, object, bytes]]] = deque(maxlen=2)  # field, list and bytes, of the last such lists
_TOLD: Final[deque[tuple[int, object, bytes]]] = deque(maxlen=2)  # round, body, bytes: a roster leaves with its round

Reader: TypeAlias = Callable[[Any], Any]
Writer: TypeAlias = Callable[[Any, Any], None]

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
    value = _reader(schema)(message)
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
    message = _generated(value.__class__)()
    _writer(value.__class__)(value, message)
    return message.SerializeToString(deterministic=True)


def _told_to_all(value: ServerMessage) -> bytes:
    """The very same bytes for each client: of a thousand, each waits for its line, and a roster has 0.9 MB."""
    for number, body, data in tuple(_TOLD):
        if body is value.body and number == value.round:
            return data
    data = _serialised(value)
    _TOLD.append((value.round, value.body, data))
    return data


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
    label: str  # for sentences: the message's name and the field's
    bounds: tuple[Bound, ...]
    item: type | None  # the message class of a nested or repeated field
    repeated: bool
    choices: dict[str, type]  # the message classes of a oneof, by the name of their member

    def check(self, value: object) -> None:
        """Refuse a value outside the bounds."""
        for bound in self.bounds:
            check(self.label, bound, value)

    def check_count(self, items: Any) -> None:
        """Before items become objects: 24 MiB of empty sub-messages would be 12 million of them."""
        for bound in self.bounds:
            if isinstance(bound, Count):
                bound.check(self.label, items)


@cache
def _schema(kind: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_field(kind, field.name, hints[field.name]) for field in fields(kind))


def _field(kind: Any, name: str, hint: object) -> _Field:
    label, bounds = f"{kind.__name__}.{name}", cast("tuple[Bound, ...]", ())
    if get_origin(hint) is Annotated:
        hint, *found = get_args(hint)
        bounds = tuple(found)
    oneof = _generated(kind).DESCRIPTOR.oneofs_by_name.get(name)
    if oneof is not None:
        classes = {choice.__name__: choice for choice in get_args(hint)}
        choices = {member.name: classes[member.message_type.name] for member in oneof.fields if member.message_type}
        return _Field(name, label, bounds, None, repeated=False, choices=choices)
    repeated = get_origin(hint) is tuple
    item = get_args(hint)[0] if repeated else hint
    nested = item if isinstance(item, type) and is_dataclass(item) else None
    return _Field(name, label, bounds, nested, repeated=repeated, choices={})


@cache
def _generated(kind: Any) -> type[Message]:
    for module in (aggregation_pb2, operator_pb2):
        if hasattr(module, kind.__name__):
            found: type[Message] = getattr(module, kind.__name__)
            return found
    raise MessageError(f"{kind.__name__} is not a message")


def _check_fields(value: Any) -> None:
    for field in _schema(type(value)):
        field.check(getattr(value, field.name))


@cache
def _reader(kind: Any) -> Reader:
    """From a parsed protobuf message to a value. Put together once: most of a large round's messages are small."""
    readers = [_field_reader(kind, field) for field in _schema(kind)]
    return lambda message: kind(*[read(message) for read in readers])


def _field_reader(kind: Any, field: _Field) -> Reader:
    if field.choices:
        return _choice_reader(kind, field)
    if field.repeated:
        return _items_reader(field)
    if field.item:
        return _nested_reader(field, _reader(field.item))
    name, bounds, label = field.name, field.bounds, field.label

    def read(message: Any) -> object:
        value = getattr(message, name)
        for bound in bounds:
            check(label, bound, value)
        return value

    return read


def _items_reader(field: _Field) -> Reader:
    name, item = field.name, _reader(field.item) if field.item else None

    def read(message: Any) -> object:
        items = getattr(message, name)
        field.check_count(items)
        value = tuple(map(item, items)) if item else tuple(items)
        field.check(value)
        return value

    return read


def _nested_reader(field: _Field, inner: Reader) -> Reader:
    def read(message: Any) -> object:
        if not message.HasField(field.name):
            raise MessageError(f"{field.label} is missing")
        return inner(getattr(message, field.name))

    return read


def _choice_reader(kind: Any, field: _Field) -> Reader:
    def read(message: Any) -> object:
        chosen = message.WhichOneof(field.name)
        if chosen is None:
            raise MessageError(f"{kind.__name__} is empty")
        return _reader(field.choices[chosen])(getattr(message, chosen))

    return read


@cache
def _writer(kind: Any) -> Writer:
    """From a value to a protobuf message, put together once."""
    writers = [_field_writer(kind, field) for field in _schema(kind)]

    def write(value: Any, message: Any) -> None:
        for each in writers:
            each(value, message)

    return write


def _field_writer(kind: Any, field: _Field) -> Writer:
    if field.choices:
        return _choice_writer(field)
    if field.repeated:
        return _items_writer(kind, field)
    if field.item:
        return _nested_writer(field, _writer(field.item))
    name, bounds, label = field.name, field.bounds, field.label

    def write(value: Any, message: Any) -> None:
        found = getattr(value, name)
        for bound in bounds:
            check(label, bound, found)
        setattr(message, name, bytes(found) if type(found) is memoryview else found)

    return write


def _items_writer(kind: Any, field: _Field) -> Writer:
    name, item = field.name, _writer(field.item) if field.item else None

    def write_each(found: Any, message: Any) -> None:
        add = getattr(message, name).add
        for entry in found:
            item(entry, add())

    def write(value: Any, message: Any) -> None:
        found = getattr(value, name)
        field.check(found)
        if item is None:
            getattr(message, name).extend(found)
        elif len(found) < LONG:
            write_each(found, message)
        else:
            message.MergeFromString(_shared(kind, field.label, found, write_each))

    return write


def _nested_writer(field: _Field, inner: Writer) -> Writer:
    def write(value: Any, message: Any) -> None:
        target = getattr(message, field.name)
        target.SetInParent()
        inner(getattr(value, field.name), target)

    return write


def _choice_writer(field: _Field) -> Writer:
    members = {choice: (name, _writer(choice)) for name, choice in field.choices.items()}

    def write(value: Any, message: Any) -> None:
        found = getattr(value, field.name)
        if type(found) not in members:
            raise MessageError(f"{field.label} cannot be a {type(found).__name__}")
        name, inner = members[type(found)]
        target = getattr(message, name)
        target.SetInParent()
        inner(found, target)

    return write


def _shared(kind: Any, label: str, items: Any, write_each: Writer) -> bytes:
    """A long list that all clients of a round are told, as a message with this field alone: encoded for the first.

    Among 10,000 clients the list of all adverts takes 12 ms, and merging its bytes a tenth of that.
    """
    for of, known, data in tuple(_SHARED):
        if known is items and of == label:
            return data
    message = _generated(kind)()
    write_each(items, message)
    data = message.SerializeToString(deterministic=True)
    _SHARED.append((label, items, data))
    return data
