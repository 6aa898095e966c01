import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.errors import MessageError
from aggregator.wire import messages
from aggregator.wire.bounds import Ascending, Between, Bound, Count, Length, Printable, check

KINDS = [kind for kind in vars(messages).values() if is_dataclass(kind) and kind.__module__ == messages.__name__]


@dataclass(frozen=True)
class Item:
    client: int


def allows(bound: Bound, value: object) -> bool:
    try:
        check("Kind.field", bound, value)
    except MessageError:
        return False
    return True


@pytest.mark.parametrize(
    ("bound", "value"),
    [(Length(1, 2), b""), (Count(1, 2), ()), (Between(1, 2), 3), (Ascending(), (2, 1)), (Printable(), "\n")],
)
def test_the_field_is_named(bound: Bound, value: object) -> None:
    with pytest.raises(MessageError, match=r"^Kind\.field: "):
        check("Kind.field", bound, value)


@given(least=st.integers(0, 8), room=st.integers(0, 8), size=st.integers(0, 20))
def test_lengths_and_counts_are_inclusive(least: int, room: int, size: int) -> None:
    inside = least <= size <= least + room
    assert allows(Length(least, least + room), b"x" * size) is inside
    assert allows(Length(least, least + room), "x" * size) is inside
    assert allows(Count(least, least + room), (b"",) * size) is inside


def test_text_is_measured_in_bytes_of_utf_8() -> None:
    assert allows(Length(1, 6), "नम")
    assert not allows(Length(1, 5), "नम")
    assert not allows(Length(7, 9), "नम")


@pytest.mark.parametrize("hidden", ["\x1b[2J", "a\nb", "\x7f", "\x9b2J", "\u2028", "\u202e"])
def test_text_for_people_holds_nothing_that_a_terminal_obeys(hidden: str) -> None:
    assert allows(Printable(), "aiims-delhi, नमस्ते")
    assert not allows(Printable(), hidden)
    assert not allows(Printable(), ("fine", hidden))


@given(st.integers(-5, 15))
def test_numbers_are_inclusive(number: int) -> None:
    assert allows(Between(0, 9), number) is (0 <= number <= 9)
    assert allows(Between(0.0, 9.0), float(number)) is (0 <= number <= 9)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(number: float) -> None:
    assert not allows(Between(-1e300, 1e300), number)


def test_large_integers_are_compared_exactly() -> None:
    assert allows(Between(1, 2**63 - 1), 2**63 - 1)
    assert not allows(Between(1, 2**63 - 1), 2**63)


def test_length_and_range_speak_of_each_item() -> None:
    assert allows(Length(2, 2), (b"ab", b"cd"))
    assert not allows(Length(2, 2), (b"ab", b"c"))
    assert allows(Between(0, 9), (0, 9))
    assert not allows(Between(0, 9), (0, 10))
    assert allows(Between(1, 9), ())


@given(st.lists(st.integers(0, 6), max_size=6))
def test_ascending_refuses_duplicates_and_disorder(numbers: list[int]) -> None:
    expected = numbers == sorted(set(numbers))
    assert allows(Ascending(), tuple(numbers)) is expected
    assert allows(Ascending("client"), tuple(Item(number) for number in numbers)) is expected


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_field_is_without_bounds(kind: type) -> None:
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint: Any = hints[field.name]
        bounds: set[type] = set()
        if get_origin(hint) is Annotated:
            hint, *found = get_args(hint)
            bounds = {type(bound) for bound in found}
        repeated = get_origin(hint) in {tuple, Sequence}
        item = get_args(hint)[0] if repeated else hint
        assert (Count in bounds) is repeated, field.name
        assert (Length in bounds) is (item in (str, bytes, bytes | memoryview)), field.name
        assert (Between in bounds) is (item in (int, float)), field.name
        assert item in (bool, str, bytes, int, float) or is_dataclass(item) or isinstance(item, UnionType), field.name


def test_a_view_is_measured_in_bytes_whatever_its_items() -> None:
    assert allows(Length(8, 8), memoryview(bytes(8)))
    assert allows(Length(8, 8), memoryview(bytes(8)).cast("I"))
    assert not allows(Length(1, 7), memoryview(bytes(8)).cast("Q"))
