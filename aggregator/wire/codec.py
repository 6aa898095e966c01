"""Bytes to messages and back: the one place where a length, a range or a count from the wire is checked.

The annotations of `messages` are the schema; this file is the rule that reads them. protobuf's parser never allocates
beyond the bytes that arrived, and those are bounded by gRPC's message limit (service and transport set it).
"""

from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from google.protobuf.message import DecodeError, EncodeError, Message

from aggregator.errors import MessageError
from aggregator.wire._pb import aggregation_pb2, operator_pb2
from aggregator.wire.bounds import Bound, Count, check

MESSAGE_BYTES_MAX = 24 << 20

T = TypeVar("T")


def decode(kind: type[T], data: bytes) -> T:
    """Parse and check one message.

    Raises:
        MessageError: not protobuf, an empty oneof, or a field outside its bounds (the field is named).
    """
    schema: Any = kind
    message = _generated(schema)()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise MessageError(f"{kind.__name__}: not a protobuf message") from None
    value: T = _read(schema, message)
    return value


def encode(value: Any) -> bytes:
    """Check and serialise one message; a value outside its bounds never leaves.

    Raises:
        MessageError: a field is outside its bounds.
    """
    message = _generated(value.__class__)()
    try:
        _write(value, message)
        return message.SerializeToString(deterministic=True)
    except (EncodeError, ValueError, TypeError) as error:
        raise MessageError(f"{type(value).__name__}: {error}") from None


@dataclass(frozen=True, slots=True)
class _Field:
    """One field's schema, read from its annotation."""

    name: str
    bounds: tuple[Bound, ...]
    item: type | None  # the message class of a nested or repeated field
    repeated: bool
    choices: tuple[type, ...]  # the message classes of a oneof


@cache
def _schema(kind: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_field(field.name, hints[field.name]) for field in fields(kind))


def _field(name: str, hint: object) -> _Field:
    bounds: tuple[Bound, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *found = get_args(hint)
        bounds = tuple(found)
    if get_origin(hint) is UnionType:
        return _Field(name, bounds, None, repeated=False, choices=get_args(hint))
    repeated = get_origin(hint) is tuple
    item = get_args(hint)[0] if repeated else hint
    nested = item if isinstance(item, type) and is_dataclass(item) else None
    return _Field(name, bounds, nested, repeated=repeated, choices=())


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


def _check_count(kind: type, field: _Field, value: Any) -> None:
    """Before items become objects: 24 MiB of empty sub-messages would be 12 million of them."""
    for bound in field.bounds:
        if isinstance(bound, Count):
            bound.check(f"{kind.__name__}.{field.name}", value)


def _snake(kind: type) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("_")


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
    body = getattr(message, chosen)
    return _read(next(c for c in field.choices if _snake(c) == chosen), body)


def _write(value: Any, message: Any) -> None:
    kind: Any = type(value)
    for field in _schema(kind):
        item = getattr(value, field.name)
        _check(kind, field, item)
        if field.choices:
            target = getattr(message, _snake(type(item)))
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
            setattr(message, field.name, item)
