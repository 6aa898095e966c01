"""What a field on the wire may hold. Messages carry these as annotations; the codec enforces them, once.

    key: Annotated[bytes, Length(32, 32)]
    clients: Annotated[tuple[int, ...], Count(1, 10_000), Between(0, 9_999), Ascending()]

On a repeated field, `Count` and `Ascending` speak of the whole, the others of each item.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter, lt
from typing import Any, TypeAlias

from aggregator.errors import MessageError


@dataclass(frozen=True, slots=True)
class Count:
    """Items of a repeated field, from `least` to `most`; checked before any item is read."""

    least: int
    most: int

    def check(self, field: str, value: Sequence[object]) -> None:
        """Refuse other counts."""
        if not self.least <= len(value) <= self.most:
            raise MessageError(f"{field}: {len(value)} items, expected {self.least} to {self.most}")


@dataclass(frozen=True, slots=True)
class Ascending:
    """A repeated field in strictly ascending order, by one attribute of its items where `key` names it."""

    key: str = ""

    def check(self, field: str, value: Sequence[Any]) -> None:
        """Refuse duplicates and disorder."""
        order = list(map(attrgetter(self.key), value)) if self.key else value
        if not all(map(lt, order, order[1:])):
            raise MessageError(f"{field}: not in strictly ascending order")


@dataclass(frozen=True, slots=True)
class Length:
    """Bytes of a byte string, or bytes of a text in UTF-8, from `least` to `most`."""

    least: int
    most: int

    def check(self, field: str, value: str | bytes | memoryview) -> None:
        """Refuse other lengths."""
        size = len(value) if type(value) is bytes else _octets(value)
        if not self.least <= size <= self.most:
            wanted = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
            raise MessageError(f"{field}: {size} bytes, expected {wanted}")


@dataclass(frozen=True, slots=True)
class Between:
    """Numbers from `least` to `most`, both included; NaN is in no range."""

    least: float
    most: float

    def check(self, field: str, value: float) -> None:
        """Refuse numbers outside."""
        if not self.least <= value <= self.most:
            raise MessageError(f"{field}: {value} is outside {self.least} to {self.most}")


@dataclass(frozen=True, slots=True)
class Printable:
    """Text without control characters or line breaks: it ends in somebody's terminal, whoever sent it."""

    def check(self, field: str, value: str) -> None:
        """Refuse characters that are not seen."""
        if not value.isprintable():
            raise MessageError(f"{field}: holds characters that cannot be printed")


Bound: TypeAlias = Count | Ascending | Length | Between | Printable

_OF_EACH = (Length, Between, Printable)


def check(field: str, bound: Bound, value: Any) -> None:
    """Apply one bound to a field's value.

    Raises:
        MessageError: the value is outside; `field` is named.
    """
    if type(value) is tuple and isinstance(bound, _OF_EACH):
        for item in value:
            bound.check(field, item)
    else:
        bound.check(field, value)


def _octets(value: str | bytes | memoryview) -> int:
    return len(value.encode()) if isinstance(value, str) else memoryview(value).nbytes
