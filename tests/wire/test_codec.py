import math
import tracemalloc
from dataclasses import is_dataclass, replace
from types import UnionType
from typing import Any, get_args

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.errors import MessageError
from aggregator.wire import messages
from aggregator.wire._pb import aggregation_pb2, operator_pb2
from aggregator.wire.bounds import Ascending, Between, Count, Length, Printable
from aggregator.wire.codec import MESSAGE_BYTES_MAX, SPARE_BYTES, bytes_max, decode, encode
from tests.messages import Field, extreme, extreme_item, fields_of, kinds_in

KINDS = kinds_in(messages)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
few = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])


def generated(kind: Any) -> Message:
    for module in (aggregation_pb2, operator_pb2):
        if hasattr(module, kind.__name__):
            message: Message = getattr(module, kind.__name__)()
            return message
    raise AssertionError(kind)


# ---------------------------------------------------------------- values of every message type


def values(kind: Any) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{field.name: field_values(field) for field in fields_of(kind)})


def field_values(field: Field) -> st.SearchStrategy[Any]:
    if not field.repeated:
        return item_values(field)
    count, order = field.bound(Count), field.bound(Ascending)
    key = (lambda item: getattr(item, order.key) if order.key else item) if order else None
    size = {"min_size": count.least, "max_size": min(count.most, count.least + 2)}
    items = st.lists(item_values(field), unique_by=key, **size)
    return items.map(lambda found: tuple(sorted(found, key=key) if key else found))


def item_values(field: Field) -> st.SearchStrategy[Any]:
    if isinstance(field.item, UnionType):
        return st.one_of([values(choice) for choice in get_args(field.item)])
    if is_dataclass(field.item):
        return values(field.item)
    if field.item is bool:
        return st.booleans()
    if field.item is int:
        return st.integers(field.bound(Between).least, field.bound(Between).most)
    if field.item is float:
        return st.floats(field.bound(Between).least, field.bound(Between).most)
    length = field.bound(Length)
    if field.item is bytes:
        return st.binary(min_size=length.least, max_size=min(length.most, length.least + 9))
    seen = ("L", "M", "N", "P", "S") if field.bound(Printable) else None
    return st.text(
        st.characters(codec="utf-8", categories=seen), min_size=length.least, max_size=min(length.most // 4, 9)
    )


ANY_VALUE = st.one_of([values(kind) for kind in KINDS])


# ---------------------------------------------------------------- an independent judge


def assert_within_bounds(value: Any) -> None:
    for field in fields_of(type(value)):
        found = getattr(value, field.name)
        items = found if field.repeated else (found,)
        assert type(found) is tuple or not field.repeated
        if count := field.bound(Count):
            assert count.least <= len(items) <= count.most
        if order := field.bound(Ascending):
            keys = [getattr(item, order.key) if order.key else item for item in items]
            assert keys == sorted(set(keys))
        for item in items:
            assert_item_within_bounds(field, item)


def assert_item_within_bounds(field: Field, item: Any) -> None:
    assert isinstance(bytes(item) if isinstance(item, memoryview) else item, field.item)
    if is_dataclass(item):
        assert_within_bounds(item)
    if length := field.bound(Length):
        assert length.least <= len(item.encode() if isinstance(item, str) else item) <= length.most
    if between := field.bound(Between):
        assert math.isfinite(item)
        assert between.least <= item <= between.most


def assert_only_message_errors(kind: Any, data: bytes) -> None:
    """A MessageError, or a value that keeps all bounds and encodes again."""
    try:
        value = decode(kind, data)
    except MessageError:
        return
    assert_within_bounds(value)
    assert decode(kind, encode(value)) == value


# ---------------------------------------------------------------- there and back


@every_kind
@few
@given(data=st.data())
def test_every_message_comes_back(kind: Any, data: st.DataObject) -> None:
    value = data.draw(values(kind))
    encoded = encode(value)
    assert decode(kind, encoded) == value
    assert encoded == encode(value)
    assert len(encoded) <= bytes_max(kind)


@every_kind
@pytest.mark.parametrize("end", ["least", "most"])
def test_bounds_are_inclusive_and_their_message_is_not_too_long(kind: Any, end: str) -> None:
    value = extreme(kind, end)
    encoded = encode(value)
    assert decode(kind, encoded) == value
    assert len(encoded) <= bytes_max(kind) <= MESSAGE_BYTES_MAX - SPARE_BYTES


@pytest.mark.parametrize("kind", [messages.ClientMessage, messages.ServerMessage, messages.UploadMessage])
def test_the_limit_of_a_stream_is_near_its_longest_message(kind: Any) -> None:
    """A limit far above would let the parser build what no honest message holds."""
    assert bytes_max(kind) < 1.2 * len(encode(extreme(kind, "most")))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if hasattr(kind, "body")], ids=lambda kind: kind.__name__)
def test_a_body_in_which_nothing_is_set_is_still_a_body(kind: Any) -> None:
    body = next(field for field in fields_of(kind) if field.name == "body")
    for choice in get_args(body.item):
        value = replace(extreme(kind, "least"), body=extreme(choice, "least"))
        assert decode(kind, encode(value)) == value


def test_the_wire_is_protobuf() -> None:
    """By hand: field 1, the header, holds field 1 "t", field 2 = 1, field 3 = 5 and 16 bytes as field 5."""
    value = messages.UploadMessage(messages.UploadHeader("t", 1, 5, (), bytes(16)))
    assert encode(value).hex() == "0a19" + "0a0174" + "1001" + "1805" + "2a10" + "00" * 16
    assert decode(messages.UploadMessage, encode(value)) == value


# ---------------------------------------------------------------- what is not a message


@every_kind
@few
@given(data=st.binary(max_size=120))
def test_random_bytes(kind: Any, data: bytes) -> None:
    assert_only_message_errors(kind, data)


@settings(few, max_examples=150)
@given(value=ANY_VALUE)
def test_truncation_at_every_prefix(value: Any) -> None:
    data = encode(value)
    for size in range(len(data)):
        assert_only_message_errors(type(value), data[:size])


@settings(few, max_examples=400)
@given(value=ANY_VALUE, surplus=st.binary(min_size=1, max_size=30))
def test_surplus_bytes(value: Any, surplus: bytes) -> None:
    assert_only_message_errors(type(value), encode(value) + surplus)


@settings(few, max_examples=400)
@given(value=ANY_VALUE, flips=st.lists(st.integers(0, 2**20), min_size=1, max_size=4))
def test_flipped_bits(value: Any, flips: list[int]) -> None:
    data = bytearray(encode(value))
    for flip in flips:
        if data:
            data[flip // 8 % len(data)] ^= 1 << flip % 8
    assert_only_message_errors(type(value), bytes(data))


@settings(few, max_examples=400)
@given(value=ANY_VALUE, other=ANY_VALUE, cut=st.integers(0, 300))
def test_messages_taken_for_each_other(value: Any, other: Any, cut: int) -> None:
    assert_only_message_errors(type(other), encode(value))
    assert_only_message_errors(type(other), encode(value)[:cut] + encode(other))


@pytest.mark.parametrize("depth", [1, 99, 100, 10_000])
def test_groups_without_end_or_bottom(depth: int) -> None:
    welcome = messages.Welcome("t", 0, 1)
    with pytest.raises(MessageError, match="not a protobuf message"):
        decode(messages.Welcome, encode(welcome) + b"\x7b" * depth)
    assert_only_message_errors(messages.Welcome, encode(welcome) + b"\x7b" * depth + b"\x7c" * depth)


def test_unknown_fields_are_ignored() -> None:
    """So that a later version may add some."""
    welcome = messages.Welcome("t", 0, 1)
    number_15 = b"\x78\x01" + b"\x7a\x03abc" + b"\x7d1234" + b"\x7912345678"
    assert decode(messages.Welcome, number_15 + encode(welcome) + number_15) == welcome
    assert decode(messages.Welcome, encode(welcome) + b"\x78\x01" * (SPARE_BYTES // 2)) == welcome


def test_a_class_that_is_no_message() -> None:
    with pytest.raises(MessageError, match="Count is not a message"):
        decode(Count, b"")
    with pytest.raises(MessageError, match="NoneType is not a message"):
        encode(None)


# ---------------------------------------------------------------- each bound, on the wire


def wrong_scalars(field: Field) -> list[Any]:
    """What the generated class can hold and the annotation forbids."""
    wrong: list[Any] = []
    if length := field.bound(Length):
        sizes = [length.most + 1] + [length.least - 1] * (length.least > 0)
        wrong = [b"x" * size if field.item is bytes else "x" * size for size in sizes]
    if between := field.bound(Between):
        if field.item is float:
            wrong = [math.nan, math.inf, -math.inf, math.nextafter(between.most, math.inf)]
            wrong += [math.nextafter(between.least, -math.inf)]
        else:
            wrong = [between.most + 1] + [between.least - 1] * (between.least > 0)
    return wrong


def wrong_fields(field: Field, found: Any) -> list[Any]:
    """As `wrong_scalars`, of a repeated field as well; `found` is what the field rightly holds."""
    if not field.repeated:
        return wrong_scalars(field)
    right, count = list(found), field.bound(Count)
    item = right[0] if right else extreme_item(field, "least")
    wrong: list[Any] = [[*right[1:], scalar] for scalar in wrong_scalars(field)]
    wrong += [[item] * (count.most + 1)] + [[item] * (count.least - 1)] * (count.least > 0)
    if field.bound(Ascending) and len(right) > 1:
        wrong += [right[::-1], [*right, right[-1]]]
    return wrong


def put(message: Any, name: str, wrong: Any) -> None:
    message.ClearField(name)
    if isinstance(wrong, list):
        getattr(message, name).extend(wrong)
    else:
        setattr(message, name, wrong)


def two_items(value: Any) -> Any:
    """Where items must ascend, two of them can be swapped; where messages may be left out, one is there."""
    for field in fields_of(type(value)):
        if field.bound(Ascending):
            one = extreme_item(field, "least")
            value = replace(value, **{field.name: field.with_items((one, one))})
        elif field.repeated and is_dataclass(field.item) and not getattr(value, field.name):
            value = replace(value, **{field.name: (extreme_item(field, "least"),)})
    return value


@every_kind
def test_each_field_is_refused_by_name_outside_its_bounds(kind: Any) -> None:
    right = encode(two_items(extreme(kind, "least")))
    for field in fields_of(kind):
        if isinstance(field.item, UnionType) or not field.bounds:
            continue
        message: Any = generated(kind)
        message.ParseFromString(right)
        wrongs = wrong_fields(field, getattr(message, field.name))
        assert wrongs
        for wrong in wrongs:
            put(message, field.name, wrong)
            with pytest.raises(MessageError, match=rf"^{kind.__name__}\.{field.name}: "):
                decode(kind, message.SerializeToString())


@every_kind
def test_a_value_outside_its_bounds_never_leaves(kind: Any) -> None:
    right = two_items(extreme(kind, "least"))
    for field in fields_of(kind):
        if isinstance(field.item, UnionType) or not field.bounds:
            continue
        for wrong in wrong_fields(field, getattr(right, field.name)):
            value = replace(right, **{field.name: tuple(wrong) if field.repeated else wrong})
            with pytest.raises(MessageError, match=rf"^{kind.__name__}\.{field.name}: "):
                encode(value)


@every_kind
def test_nested_messages_and_bodies_are_not_missing(kind: Any) -> None:
    for field in fields_of(kind):
        message: Any = generated(kind)
        message.ParseFromString(encode(extreme(kind, "least")))
        if isinstance(field.item, UnionType):
            message.ClearField(field.name)
            with pytest.raises(MessageError, match=f"{kind.__name__} is empty"):
                decode(kind, message.SerializeToString())
        elif is_dataclass(field.item) and not field.repeated:
            message.ClearField(field.name)
            with pytest.raises(MessageError, match=rf"{kind.__name__}\.{field.name} is missing"):
                decode(kind, message.SerializeToString())


@pytest.mark.parametrize("body", [messages.Chunk(0, b"x"), None, 5])
def test_a_body_that_the_oneof_does_not_hold(body: Any) -> None:
    with pytest.raises(MessageError, match=f"ClientMessage.body cannot be a {type(body).__name__}"):
        encode(messages.ClientMessage(1, body))


@pytest.mark.parametrize("wrong", [None, 5, "a text of exactly thirty-two by.", messages.Join(1, 1, "")])
def test_a_value_of_another_type_never_leaves_nor_shows(wrong: Any) -> None:
    with pytest.raises(MessageError) as caught:
        encode(messages.RevealedShare(1, wrong))
    assert "thirty-two" not in str(caught.value)
    with pytest.raises(MessageError):
        encode(messages.NamedAdvert(1, wrong))


def test_text_that_is_not_utf_8() -> None:
    with pytest.raises(MessageError, match="not a protobuf message"):
        decode(messages.Withdrawal, b"\x0a\x02\xc3\x28")
    with pytest.raises(MessageError, match="not a protobuf message"):
        decode(messages.Withdrawal, b"\x0a\x03\xed\xa0\x80")
    with pytest.raises(MessageError, match="Withdrawal"):
        encode(messages.Withdrawal("\ud800"))


# ---------------------------------------------------------------- what protobuf itself decides


def test_of_a_oneof_set_twice_the_last_counts() -> None:
    join, withdrawal = messages.Join(1, 1, "t"), messages.Withdrawal("power cut")
    twice = encode(messages.ClientMessage(0, join)) + encode(messages.ClientMessage(0, withdrawal))
    assert decode(messages.ClientMessage, twice) == messages.ClientMessage(0, withdrawal)


def test_a_body_sent_in_two_pieces_is_one_and_its_bounds_hold() -> None:
    """protobuf merges: the last scalar counts, repeated fields are joined, and then checked as a whole."""
    early = messages.ServerMessage(3, messages.RoundClosed((1, 2), result_shared=True))
    late = messages.ServerMessage(3, messages.RoundClosed((4, 7), result_shared=True))
    joined = messages.ServerMessage(3, messages.RoundClosed((1, 2, 4, 7), result_shared=True))
    assert decode(messages.ServerMessage, encode(early) + encode(late)) == joined
    with pytest.raises(MessageError, match=r"RoundClosed\.survivors: not in strictly ascending order"):
        decode(messages.ServerMessage, encode(late) + encode(early))


def test_a_varint_wider_than_its_field_is_cut_before_the_bounds_are_checked() -> None:
    """32 bits of 2^32 + 5 are 5, to every reader; nothing is signed or hashed as it stood on the wire."""
    assert decode(messages.Chunk, b"\x08\x85\x80\x80\x80\x10" + b"\x12\x01x") == messages.Chunk(5, b"x")


# ---------------------------------------------------------------- memory


def peak_of_refusal(kind: Any, data: bytes, match: str) -> int:
    """Bytes of Python objects while a message is being refused."""
    tracemalloc.start()
    try:
        with pytest.raises(MessageError, match=match):
            decode(kind, data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@every_kind
def test_twelve_million_empty_sub_messages_are_not_even_parsed(kind: Any) -> None:
    """protobuf would make 749 MiB of ten million in 3 s, as measured with a dealing."""
    most = bytes_max(kind) + SPARE_BYTES
    data = b"\x0a\x00" * (MESSAGE_BYTES_MAX // 2)  # what gRPC lets through
    assert peak_of_refusal(kind, data, f"{len(data)} bytes, expected at most {most}") < 1 << 16


def items_of(kind: Any) -> list[Field]:
    return [field for field in fields_of(kind) if field.repeated and is_dataclass(field.item)]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if items_of(kind)], ids=lambda kind: kind.__name__)
def test_a_count_is_refused_before_items_become_objects(kind: Any) -> None:
    """As many empty sub-messages as the length allows: as objects of ours they would be some 100 MB."""
    right = encode(extreme(kind, "least"))
    for field in items_of(kind):
        tag = generated(kind).DESCRIPTOR.fields_by_name[field.name].number << 3 | 2
        surplus = min(400_000, (bytes_max(kind) - len(right)) // 2)
        items = surplus + field.bound(Count).least
        match = rf"^{kind.__name__}\.{field.name}: {items} items, expected"
        assert peak_of_refusal(kind, right + bytes([tag, 0]) * surplus, match) < 1 << 16
