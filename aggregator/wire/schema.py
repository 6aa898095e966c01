"""The schema of every message, read once from the annotations of `messages`, `operator_messages` and
`ckks_messages`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

from google.protobuf.message import Message

from aggregator.errors import MessageError
from aggregator.wire._pb import aggregation_pb2, ckks_pb2, operator_pb2
from aggregator.wire.bounds import Bound, Count, check


@dataclass(frozen=True, slots=True)
class Field:
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
def schema(kind: Any) -> tuple[Field, ...]:
    """The fields of a message class, in order."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_field(kind, field.name, hints[field.name]) for field in fields(kind))


def _field(kind: Any, name: str, hint: object) -> Field:
    label, bounds = f"{kind.__name__}.{name}", cast("tuple[Bound, ...]", ())
    if get_origin(hint) is Annotated:
        hint, *found = get_args(hint)
        bounds = tuple(found)
    oneof = generated(kind).DESCRIPTOR.oneofs_by_name.get(name)
    if oneof is not None:
        classes = {choice.__name__: choice for choice in get_args(hint)}
        choices = {member.name: classes[member.message_type.name] for member in oneof.fields if member.message_type}
        return Field(name, label, bounds, None, repeated=False, choices=choices)
    repeated = get_origin(hint) in {tuple, Sequence}
    item = get_args(hint)[0] if repeated else hint
    nested = item if isinstance(item, type) and is_dataclass(item) else None
    return Field(name, label, bounds, nested, repeated=repeated, choices={})


@cache
def generated(kind: Any) -> type[Message]:
    """The generated class behind a message class. MessageError: there is none."""
    for module in (aggregation_pb2, operator_pb2, ckks_pb2):
        if hasattr(module, kind.__name__):
            found: type[Message] = getattr(module, kind.__name__)
            return found
    raise MessageError(f"{kind.__name__} is not a message")
