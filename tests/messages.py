"""Messages of every kind out of their annotations, which are read here a second time: smallest and largest ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from types import ModuleType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from aggregator.wire.bounds import Ascending, Between, Bound, Count, Length
from aggregator.wire.codec import encode


@dataclass(frozen=True)
class Field:
    """One field's annotation."""

    name: str
    item: Any  # a scalar type, a message class, or a union of message classes
    repeated: bool
    bounds: tuple[Bound, ...]

    def bound(self, kind: type[Bound]) -> Any:
        return next((bound for bound in self.bounds if isinstance(bound, kind)), None)

    def with_items(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        """Items whose ids ascend, where they must."""
        order = self.bound(Ascending)
        if order is None:
            return items
        if order.key:
            return tuple(replace(item, **{order.key: index}) for index, item in enumerate(items))
        return tuple(range(len(items)))


def kinds_in(module: ModuleType) -> list[Any]:
    """The message classes of a module, in order."""
    return [kind for kind in vars(module).values() if is_dataclass(kind) and kind.__module__ == module.__name__]


def fields_of(kind: Any) -> list[Field]:
    found = []
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint, bounds = hints[field.name], ()
        if get_origin(hint) is Annotated:
            hint, *rest = get_args(hint)
            bounds = tuple(rest)
        if hint == bytes | memoryview:
            hint = bytes  # a view of bytes is as good, and nothing else differs: see test_chunk_codec
        repeated = get_origin(hint) in {tuple, Sequence}
        found.append(Field(field.name, get_args(hint)[0] if repeated else hint, repeated, bounds))
    return found


def extreme(kind: Any, end: str) -> Any:
    """The value whose fields are all at their "least" or at their "most"."""
    return kind(**{field.name: extreme_field(field, end) for field in fields_of(kind)})


def extreme_field(field: Field, end: str) -> Any:
    if isinstance(field.item, UnionType):
        found = [extreme(choice, end) for choice in get_args(field.item)]
        return max(found, key=lambda value: len(encode(value)))
    if field.repeated:
        item = extreme_item(field, end)
        return field.with_items((item,) * getattr(field.bound(Count), end))
    return extreme_item(field, end)


def extreme_item(field: Field, end: str) -> Any:
    if is_dataclass(field.item):
        return extreme(field.item, end)
    if field.item is bool:
        return end == "most"
    if field.item in (int, float):
        return field.item(getattr(field.bound(Between), end))
    text = b"x" * getattr(field.bound(Length), end)
    return text if field.item is bytes else text.decode()


def smallest(kind: Any) -> Iterator[Any]:
    """The smallest message of a kind, with each of its bodies where it has some."""
    least = extreme(kind, "least")
    bodies = [field for field in fields_of(kind) if isinstance(field.item, UnionType)]
    if not bodies:
        yield least
    for body in bodies:
        for choice in get_args(body.item):
            yield replace(least, **{body.name: extreme(choice, "least")})
