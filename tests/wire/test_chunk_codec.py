"""The fast path against the generated classes: the same bytes out, and in the same value or the same error."""

import tracemalloc
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.errors import MessageError
from aggregator.wire import codec
from aggregator.wire._pb import aggregation_pb2
from aggregator.wire.chunk_codec import decode_chunk, encode_chunk
from aggregator.wire.codec import decode, encode
from aggregator.wire.messages import CHUNK_BYTES_MAX, Chunk, ResultMessage, UploadHeader, UploadMessage

KINDS: list[Any] = [UploadMessage, ResultMessage]
both_kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
many = settings(deadline=None, max_examples=150)

VARINT_EDGES = [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455, 268_435_456, 2**31]
INDICES = st.one_of(st.integers(0, 2**31), st.sampled_from(VARINT_EDGES))
DATA = st.one_of(st.binary(min_size=1, max_size=300), st.sampled_from([b"x" * 16_383, b"x" * 16_384]))


def generated(kind: Any, index: int, data: bytes) -> bytes:
    """As the generated classes write it."""
    message = getattr(aggregation_pb2, kind.__name__)(chunk=aggregation_pb2.Chunk(index=index, data=data))
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded


def outcome(kind: Any, data: bytes) -> object:
    """What decoding gives: a value, or an error's words."""
    try:
        return decode(kind, data)
    except MessageError as error:
        return str(error)


def generic(kind: Any, data: bytes) -> object:
    """The same without the fast path."""
    with mock.patch.object(codec, "decode_chunk", return_value=None):
        return outcome(kind, data)


def assert_same(kind: Any, data: bytes) -> None:
    assert outcome(kind, data) == generic(kind, data)


# ---------------------------------------------------------------- encoding


@both_kinds
@many
@given(index=INDICES, data=DATA)
def test_what_is_written_is_what_the_generated_classes_write(kind: Any, index: int, data: bytes) -> None:
    expected = generated(kind, index, data)
    assert encode(kind(Chunk(index, data))) == expected
    assert encode(kind(Chunk(index, memoryview(b"12" + data)[2:]))) == expected


@both_kinds
@pytest.mark.parametrize("index", VARINT_EDGES)
@pytest.mark.parametrize("size", [1, 122, 123, 124, 125, 126, 127, 128, 16_377, 16_378, 16_379, CHUNK_BYTES_MAX])
def test_there_and_back_where_a_length_gets_a_byte_longer(kind: Any, index: int, size: int) -> None:
    value = kind(Chunk(index, bytes(size)))
    assert encode(value) == generated(kind, index, bytes(size))
    assert decode(kind, encode(value)) == value
    assert decode_chunk(encode(value)) == value.body


def test_a_chunk_by_itself_may_be_a_view_too() -> None:
    assert encode(Chunk(5, memoryview(b"abc"))) == bytes.fromhex("08051203616263")
    assert decode(Chunk, bytes.fromhex("08051203616263")) == Chunk(5, b"abc")


def test_a_view_leaves_as_bytes_whatever_its_items() -> None:
    words = memoryview(bytes(range(8))).cast("I")
    assert encode(UploadMessage(Chunk(1, words))) == generated(UploadMessage, 1, bytes(range(8)))


@both_kinds
@pytest.mark.parametrize(
    ("chunk", "named"),
    [
        (Chunk(-1, b"x"), r"^Chunk\.index: -1 is outside"),
        (Chunk(2**31 + 1, b"x"), r"^Chunk\.index: 2147483649 is outside"),
        (Chunk(0, b""), r"^Chunk\.data: 0 bytes, expected 1 to 1048576"),
        (Chunk(0, memoryview(b"")), r"^Chunk\.data: 0 bytes, expected 1 to 1048576"),
        (Chunk(0, bytes(CHUNK_BYTES_MAX + 1)), r"^Chunk\.data: 1048577 bytes, expected 1 to 1048576"),
        (Chunk(0, memoryview(bytes(CHUNK_BYTES_MAX + 4)).cast("I")), r"^Chunk\.data: 1048580 bytes"),
        (Chunk(0, memoryview(b"abcdef")[::2]), "bytes-like"),
    ],
)
def test_a_chunk_outside_its_bounds_never_leaves(kind: Any, chunk: Chunk, named: str) -> None:
    with pytest.raises(MessageError, match=named):
        encode(kind(chunk))


@both_kinds
@pytest.mark.parametrize("wrong", [None, 1.5, "a text of a chunk's data", [1, 2]])
def test_a_chunk_of_other_types_never_leaves_nor_shows(kind: Any, wrong: Any) -> None:
    with pytest.raises(MessageError, match=kind.__name__) as caught:
        encode(kind(Chunk(0, wrong)))
    assert "a text of" not in str(caught.value)
    with pytest.raises(MessageError, match=kind.__name__):
        encode(kind(Chunk(wrong, b"x")))


# ---------------------------------------------------------------- decoding


def varint(number: int, longer: int = 0) -> bytes:
    """A varint; `longer` bytes longer than it need be."""
    octets = [number >> 7 * place & 0x7F for place in range(max(1, -(-number.bit_length() // 7)) + longer)]
    return bytes([*(octet | 0x80 for octet in octets[:-1]), octets[-1]])


def number_field(tag: int, number: int, longer: int = 0) -> bytes:
    return varint(tag << 3, longer) + varint(number, longer)


def bytes_field(tag: int, data: bytes, lie: int = 0, longer: int = 0) -> bytes:
    return varint(tag << 3 | 2, longer) + varint(max(0, len(data) + lie), longer) + data


ANY_INDEX = st.one_of(
    st.sampled_from([0, 1, 300, 2**31, 2**31 + 1, 2**32, 2**32 + 5, 2**64 - 1]), st.integers(0, 2**36)
)
LONGER = st.sampled_from([0, 0, 0, 1, 3])
LIES = st.sampled_from([0, 0, 0, 0, 0, -1, 1, 2**31, 2**34])
UNKNOWN = st.sampled_from([number_field(15, 1), bytes_field(15, b"abc"), b"\x7d1234", b"\x7b\x7c", b"\x00"])
INSIDE = st.one_of(
    st.builds(number_field, st.just(1), ANY_INDEX, LONGER),
    st.builds(bytes_field, st.just(2), st.binary(max_size=200), LIES, LONGER),
    st.builds(bytes_field, st.just(1), st.binary(max_size=3)),
    UNKNOWN,
)
HEADER = encode(UploadMessage(UploadHeader("t", 1, 5, (), bytes(16))))
IN_ORDER = st.tuples(st.builds(number_field, st.just(1), ANY_INDEX), st.builds(bytes_field, st.just(2), DATA))
CHUNKS = st.one_of(IN_ORDER, st.lists(INSIDE, max_size=4)).map(b"".join)
OUTSIDE = st.one_of(st.builds(bytes_field, st.just(2), CHUNKS, LIES, LONGER), UNKNOWN, st.just(HEADER))
MESSAGES = st.one_of(st.lists(OUTSIDE, min_size=1, max_size=3).map(b"".join), st.binary(max_size=60))


@both_kinds
@settings(deadline=None, max_examples=400)
@given(data=MESSAGES)
def test_any_bytes_mean_what_the_generic_codec_says(kind: Any, data: bytes) -> None:
    assert_same(kind, data)


@both_kinds
@many
@given(index=INDICES, data=DATA, surplus=st.binary(min_size=1, max_size=9))
def test_surplus_bytes(kind: Any, index: int, data: bytes, surplus: bytes) -> None:
    encoded = generated(kind, index, data) + surplus
    assert decode_chunk(encoded) is None
    assert_same(kind, encoded)


@both_kinds
@many
@given(index=INDICES, data=DATA, at=st.integers(0, 20), bit=st.integers(0, 7))
def test_flipped_bits_of_the_head(kind: Any, index: int, data: bytes, at: int, bit: int) -> None:
    encoded = bytearray(generated(kind, index, data))
    encoded[at % len(encoded)] ^= 1 << bit
    assert_same(kind, bytes(encoded))


@both_kinds
@pytest.mark.parametrize("index", [0, 5, 300, 2**31])
@pytest.mark.parametrize("size", [1, 127, 128, 300])
def test_truncation_at_every_byte(kind: Any, index: int, size: int) -> None:
    encoded = generated(kind, index, bytes(size))
    for short in range(len(encoded)):
        assert decode_chunk(encoded[:short]) is None
        assert_same(kind, encoded[:short])


FIVE = number_field(1, 5)
WORDS = bytes_field(2, b"words")
OTHER_FORMS = {
    "a first index that is written": (0, bytes_field(2, number_field(1, 0) + WORDS)),
    "data before its index": (5, bytes_field(2, WORDS + FIVE)),
    "the index twice": (5, bytes_field(2, number_field(1, 7) + FIVE + WORDS)),
    "the data twice": (5, bytes_field(2, FIVE + bytes_field(2, b"other") + WORDS)),
    "two chunks, merged": (5, bytes_field(2, WORDS) + bytes_field(2, FIVE)),
    "a header first": (5, HEADER + bytes_field(2, FIVE + WORDS)),
    "a long length outside": (5, bytes_field(2, FIVE + WORDS, longer=2)),
    "a long length inside": (5, bytes_field(2, FIVE + bytes_field(2, b"words", longer=2))),
    "a long index": (5, bytes_field(2, number_field(1, 5, 2) + WORDS)),
    "an index of more than 32 bits, which are cut": (5, bytes_field(2, number_field(1, 2**32 + 5) + WORDS)),
    "an unknown field inside": (5, bytes_field(2, FIVE + WORDS + number_field(15, 1))),
    "an unknown field outside": (5, bytes_field(2, FIVE + WORDS) + number_field(15, 1)),
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_every_other_form_is_accepted_with_its_meaning(form: str) -> None:
    index, encoded = OTHER_FORMS[form]
    assert decode_chunk(encoded) is None
    found = decode(UploadMessage, encoded)
    assert found == UploadMessage(Chunk(index, b"words"))
    assert isinstance(found.body, Chunk)
    assert type(found.body.data) is bytes, "bytes of its own, so that no surplus lives on behind them"


@both_kinds
@pytest.mark.parametrize(
    ("chunk", "named"),
    [
        (Chunk(2**31 + 1, b"x"), r"^Chunk\.index: 2147483649 is outside"),
        (Chunk(2**32 - 1, b"x"), r"^Chunk\.index: 4294967295 is outside"),
        (Chunk(0, bytes(CHUNK_BYTES_MAX + 1)), r"^Chunk\.data: 1048577 bytes, expected 1 to 1048576"),
        (Chunk(3, b""), r"^Chunk\.data: 0 bytes, expected 1 to 1048576"),
    ],
)
def test_bounds_hold_in_the_form_itself(kind: Any, chunk: Chunk, named: str) -> None:
    encoded = encode_chunk(chunk)
    assert decode_chunk(encoded) == chunk
    with pytest.raises(MessageError, match=named):
        decode(kind, encoded)
    assert_same(kind, encoded)


def test_a_message_too_long_is_refused_before_it_is_read() -> None:
    encoded = encode_chunk(Chunk(0, bytes(4 << 20)))
    with pytest.raises(MessageError, match=r"^UploadMessage: 4194314 bytes, expected at most"):
        decode(UploadMessage, encoded)


# ---------------------------------------------------------------- copies


@both_kinds
def test_data_is_a_read_only_view_of_the_message(kind: Any) -> None:
    encoded = encode(kind(Chunk(7, b"words" * 1_000)))
    data = decode(kind, encoded).body.data
    assert isinstance(data, memoryview)
    assert data.obj is encoded
    assert data.readonly
    assert (data.format, data.itemsize, data.contiguous) == ("B", 1, True)


def peak(action: Any) -> int:
    """Bytes of Python objects that it makes, at most."""
    action()  # caches
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_one_copy_out_and_none_in() -> None:
    value = UploadMessage(Chunk(7, memoryview(bytes(CHUNK_BYTES_MAX))))
    encoded = encode(value)
    assert peak(lambda: encode(value)) < 1.01 * CHUNK_BYTES_MAX
    assert peak(lambda: decode(UploadMessage, encoded)) < 8 << 10
