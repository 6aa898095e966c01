import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import pack
from native.ring import word_dtype
from tests.reference import packing


@st.composite
def vectors(draw: st.DrawFn) -> tuple[int, np.ndarray]:
    bits = draw(st.integers(1, 64))
    dtype = draw(st.sampled_from([np.dtype(np.uint64), word_dtype(bits)]))
    return bits, np.array(draw(st.lists(st.integers(0, 2**bits - 1), max_size=90)), dtype)


@given(vector=vectors(), offset=st.integers(0, 9))
def test_pack_and_unpack_agree_with_one_big_integer(vector: tuple[int, np.ndarray], offset: int) -> None:
    bits, values = vector
    packed = pack.pack(values, bits)
    assert packed.tobytes() == packing.pack(values.tolist(), bits)
    # Read-only, at any alignment, with foreign bytes on both sides: nothing beyond the vector may count.
    raw = b"\xff" * offset + packed.tobytes() + b"\xff" * 16
    data = np.frombuffer(raw, np.uint8)[offset : offset + len(packed)]
    out = np.full(len(values), 3, values.dtype)
    pack.unpack(data, bits, out)
    assert out.tolist() == values.tolist()


@pytest.mark.parametrize("bits", range(1, 65))
def test_every_width_at_length(bits: int) -> None:
    values = np.random.default_rng(bits).integers(0, 2**64, 1000, np.uint64) >> np.uint64(64 - bits)
    values = values.astype(word_dtype(bits))
    packed, out = pack.pack(values, bits), np.zeros_like(values)
    assert packed.tobytes() == packing.pack(values.tolist(), bits)
    pack.unpack(packed, bits, out)
    assert (out == values).all()


def test_high_bits_never_reach_a_neighbour() -> None:
    values = np.array([2**32 - 1, 0, 2**32 - 1], np.uint32)
    assert pack.pack(values, 5).tobytes() == packing.pack([31, 0, 31], 5)


def test_the_result_is_a_copy() -> None:
    values = np.zeros(4, np.uint32)
    packed = pack.pack(values, 32)
    packed[:] = 255
    assert not values.any()


@given(entries=st.integers(1, 20), bits=st.integers(1, 64))
def test_padding_is_seen(entries: int, bits: int) -> None:
    data = np.frombuffer(packing.pack([2**bits - 1] * entries, bits), np.uint8).copy()
    assert pack.padding_is_zero(data, entries, bits)
    for bit in range(entries * bits % 8 or 8, 8):
        spoilt = data.copy()
        spoilt[-1] |= 1 << bit
        assert not pack.padding_is_zero(spoilt, entries, bits)
        with pytest.raises(ValueError, match="padding"):
            packing.unpack(spoilt.tobytes(), entries, bits)


def test_an_empty_vector_has_no_padding() -> None:
    assert pack.padding_is_zero(np.zeros(0, np.uint8), 0, 5)
    assert len(pack.pack(np.zeros(0, np.uint32), 5)) == 0


@pytest.mark.parametrize("wrong", [-1, 1])
def test_other_lengths_are_refused_not_read_beyond(wrong: int) -> None:
    data = np.zeros(pack.packed_bytes(10, 26) + wrong, np.uint8)
    with pytest.raises(ValueError, match="33 bytes"):
        pack.unpack(data, 26, np.zeros(10, np.uint32))
    with pytest.raises(ValueError, match="33 bytes"):
        pack.padding_is_zero(data, 10, 26)


@pytest.mark.parametrize(("entries", "bits"), [(3, 0), (3, 65), (-1, 8)])
def test_impossible_widths_are_refused(entries: int, bits: int) -> None:
    with pytest.raises(ValueError, match="cannot pack"):
        pack.packed_bytes(entries, bits)


def test_a_dtype_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="does not hold"):
        pack.pack(np.zeros(8, np.uint32), 33)
    with pytest.raises(ValueError, match="does not hold"):
        pack.unpack(np.zeros(33, np.uint8), 33, np.zeros(8, np.uint32))
