import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.crypto.canonical import digest, encode
from aggregator.errors import ParameterError

scalars = st.one_of(
    st.binary(max_size=6), st.text(max_size=6), st.integers(-(2**127), 2**127 - 1), st.floats(allow_nan=False)
)
fields = st.lists(st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=6), max_size=4)


def typed(value: object) -> object:
    """Equality that tells 1 from 1.0 and -0.0 from 0.0."""
    if isinstance(value, list | tuple):
        return [typed(item) for item in value]
    return type(value).__name__, value.hex() if isinstance(value, float) else value


@given(fields, fields)
def test_no_two_values_collide(one: list, other: list) -> None:
    assert (encode(*one) == encode(*other)) == (typed(one) == typed(other))


@given(fields)
def test_parts_never_merge_or_move(items: list) -> None:
    """The classical collisions of plain concatenation: nesting, flattening, an empty item more."""
    for similar in ([items], [*items, b""], [*items, []], ["", *items], [items, []]):
        assert encode(*similar) != encode(*items)
    assert decode(encode(*items)) == typed(items)


def decode(data: bytes) -> list:
    """An independent reader: that it gets everything back is what injective means."""
    items = []
    while data:
        tag, size = data[:1], struct.unpack(">Q", data[1:9])[0]
        payload, data = data[9 : 9 + size], data[9 + size :]
        assert len(payload) == size
        match tag:
            case b"b":
                items.append(("bytes", payload))
            case b"s":
                items.append(("str", payload.decode()))
            case b"i":
                items.append(("int", int.from_bytes(payload, "big", signed=True)))
            case b"f":
                items.append(("float", struct.unpack(">d", payload)[0].hex()))
            case b"l":
                items.append(decode(payload[8:]))
                assert struct.unpack(">Q", payload[:8])[0] == len(items[-1])
    return items


FIXED = [
    ((), ""),
    ((b"\x01\x02",), "62" "0000000000000002" "0102"),
    (("é",), "73" "0000000000000002" "c3a9"),
    ((-2,), "69" "0000000000000010" "fffffffffffffffffffffffffffffffe"),
    ((2**64,), "69" "0000000000000010" "00000000000000010000000000000000"),
    ((1.5,), "66" "0000000000000008" "3ff8000000000000"),
    (((),), "6c" "0000000000000008" "0000000000000000"),
    ((["a", [b""]],), "6c" "000000000000002c" "0000000000000002" "73" "0000000000000001" "61"
     "6c" "0000000000000011" "0000000000000001" "62" "0000000000000000"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "expected"), FIXED)
def test_fixed_encodings(values: tuple, expected: str) -> None:
    assert encode(*values).hex() == expected


def test_digest_is_sha_256_of_domain_and_fields() -> None:
    assert digest("domain", 1) == hashlib.sha256(encode("domain", 1)).digest()
    assert digest("a", "b") != digest("ab") != digest("b", "a")


@pytest.mark.parametrize("value", [True, False, [1, True], None, {"a": 1}, 1j, {1}])
def test_what_has_no_rule_is_refused(value: object) -> None:
    with pytest.raises(ParameterError):
        encode(value)


@pytest.mark.parametrize("value", [2**127, -(2**127) - 1])
def test_integers_beyond_sixteen_bytes_are_refused(value: int) -> None:
    with pytest.raises(ParameterError, match="16 bytes"):
        encode(value)


def test_a_list_and_a_tuple_are_one_value() -> None:
    assert encode([1, b"x"]) == encode((1, b"x"))
