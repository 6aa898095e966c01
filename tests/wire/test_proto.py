"""The .proto text, the generated descriptors and the frozen messages say the same."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from google.protobuf.descriptor import Descriptor

from aggregator.wire import ckks_messages, messages, operator_messages
from aggregator.wire._pb import aggregation_pb2, ckks_pb2, operator_pb2
from aggregator.wire.bounds import Between, Count, Length

PROTO = Path(__file__).parents[2] / "proto" / "sangam" / "v1"
KINDS = {
    name: kind
    for module in (messages, operator_messages, ckks_messages)
    for name, kind in vars(module).items()
    if is_dataclass(kind) and kind.__module__ == module.__name__
}
GENERATED: dict[str, Descriptor] = {
    name: descriptor
    for module in (aggregation_pb2, operator_pb2, ckks_pb2)
    for name, descriptor in module.DESCRIPTOR.message_types_by_name.items()
}
SCALARS = {
    "bytes": bytes, "string": str, "bool": bool, "double": float, "uint32": int, "uint64": int,
}  # fmt: skip
MESSAGE = re.compile(r"((?://[^\n]*\n)*)message (\w+) \{\n(.*?)^\}", re.DOTALL | re.MULTILINE)
FIELD = re.compile(r"^\s+(repeated )?(\w+) (\w+) = (\d+);[ ]*(?://[ ](.*))?$", re.MULTILINE)
NUMBER = r"(\d[\d,]*(?:\^\d+)?(?: MiB)?)"
RANGE = re.compile(rf"{NUMBER} \.\. {NUMBER}")
AT_MOST = re.compile(rf"at most {NUMBER}(?![\^,\d]| entries together)")  # the last is a sum, which protocol checks
EXACT = re.compile(r"^(\d+) bytes")


@dataclass(frozen=True)
class Line:
    """One field as the text states it."""

    message: str
    message_comment: str
    repeated: bool
    type: str
    name: str
    number: int
    comment: str


def read_lines() -> list[Line]:
    found = []
    for path in sorted(PROTO.glob("*.proto")):
        for about, message, body in MESSAGE.findall(path.read_text()):
            for repeated, kind, name, number, comment in FIELD.findall(body):
                found.append(Line(message, about, bool(repeated), kind, name, int(number), comment))
    return found


LINES = read_lines()
COMMENT = {line.message: line.message_comment for line in LINES}


def hint_of(kind: Any, name: str) -> tuple[Any, tuple[Any, ...]]:
    """A field's type without its bounds, and the bounds."""
    hint = get_type_hints(kind, include_extras=True)[name]
    if get_origin(hint) is Annotated:
        hint, *bounds = get_args(hint)
        return hint, tuple(bounds)
    return hint, ()


def number(text: str) -> int:
    if text.endswith(" MiB"):
        return int(text.removesuffix(" MiB")) << 20
    base, _, power = text.replace(",", "").partition("^")
    result: int = int(base) ** int(power or 1)
    return result


def limits(line: Line) -> set[tuple[float, float]]:
    _, bounds = hint_of(KINDS[line.message], line.name)
    return {(bound.least, bound.most) for bound in bounds if isinstance(bound, Between | Count | Length)}


def in_oneof(line: Line) -> bool:
    return GENERATED[line.message].fields_by_name[line.name].containing_oneof is not None


def label(line: Line) -> str:
    return f"{line.message}.{line.name}"


def test_the_text_is_what_was_generated() -> None:
    stated = {(line.message, line.name, line.number, line.repeated) for line in LINES}
    assert stated == {
        (name, field.name, field.number, field.is_repeated)
        for name, descriptor in GENERATED.items()
        for field in descriptor.fields
    }


def test_messages_are_those_of_the_proto_files() -> None:
    assert set(KINDS) == set(GENERATED)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_fields_are_those_of_the_proto_message(name: str) -> None:
    descriptor = GENERATED[name]
    plain = {field.name for field in descriptor.fields if field.containing_oneof is None}
    assert {field.name for field in fields(KINDS[name])} == plain | set(descriptor.oneofs_by_name)


@pytest.mark.parametrize("line", [line for line in LINES if not in_oneof(line)], ids=label)
def test_types_are_those_of_the_proto_field(line: Line) -> None:
    hint, _ = hint_of(KINDS[line.message], line.name)
    assert (get_origin(hint) in {tuple, Sequence}) is line.repeated
    item = get_args(hint)[0] if line.repeated else hint
    if item == bytes | memoryview:
        item = bytes
    assert item is SCALARS.get(line.type, KINDS.get(line.type))
    if get_origin(hint) is tuple:
        assert get_args(hint)[1] is Ellipsis


@pytest.mark.parametrize("name", [name for name in sorted(KINDS) if GENERATED[name].oneofs_by_name])
def test_every_body_is_in_the_oneof(name: str) -> None:
    (oneof,) = GENERATED[name].oneofs
    hint, _ = hint_of(KINDS[name], oneof.name)
    assert isinstance(hint, UnionType)
    members = [member.message_type for member in oneof.fields]
    assert [choice.__name__ for choice in get_args(hint)] == [kind.name for kind in members if kind is not None]
    assert len(get_args(hint)) == len(members)


def test_the_bodies_of_the_control_stream_are_unions() -> None:
    assert hint_of(messages.ClientMessage, "body")[0] == messages.ClientBody
    assert hint_of(messages.ServerMessage, "body")[0] == messages.ServerBody


@pytest.mark.parametrize("line", LINES, ids=label)
def test_every_field_has_a_comment(line: Line) -> None:
    """A nested message may leave it to the comment above its own definition."""
    assert line.comment or (line.type not in SCALARS and COMMENT[line.type])


@pytest.mark.parametrize("line", [line for line in LINES if RANGE.search(line.comment)], ids=label)
def test_ranges_in_comments_are_the_bounds(line: Line) -> None:
    for least, most in RANGE.findall(line.comment):
        assert (number(least), number(most)) in limits(line)


@pytest.mark.parametrize("line", [line for line in LINES if AT_MOST.search(line.comment)], ids=label)
def test_limits_in_comments_are_the_bounds(line: Line) -> None:
    for most in AT_MOST.findall(line.comment):
        assert number(most) in {limit for _, limit in limits(line)}


BYTE_STRINGS = [line for line in LINES if line.type == "bytes" and not line.repeated]


@pytest.mark.parametrize("line", BYTE_STRINGS, ids=label)
def test_lengths_of_byte_strings_are_stated(line: Line) -> None:
    ((least, most),) = limits(line)
    if stated := EXACT.search(line.comment):
        assert most == int(stated[1])
        assert least == most or "empty" in line.comment
    else:
        assert RANGE.search(line.comment) or AT_MOST.search(line.comment)
