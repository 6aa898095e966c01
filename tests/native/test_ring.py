import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import ring

DTYPES = [(np.uint32, 32), (np.uint64, 64)]
pairs = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=40)


@pytest.mark.parametrize(("dtype", "bits"), DTYPES)
@given(entries=pairs)
def test_add_and_subtract_wrap(dtype: type, bits: int, entries: list[tuple[int, int]]) -> None:
    left = np.array([a % 2**bits for a, _ in entries], dtype)
    right = np.array([b % 2**bits for _, b in entries], dtype)
    right.flags.writeable = False
    total = left.copy()
    ring.add(total, right)
    assert total.tolist() == [(a + b) % 2**bits for a, b in entries]
    total = left.copy()
    ring.subtract(total, right)
    assert total.tolist() == [(a - b) % 2**bits for a, b in entries]


@given(ring_bits=st.integers(1, 64), numbers=st.lists(st.integers(0, 2**64 - 1), max_size=40))
def test_reduce_keeps_the_low_bits(ring_bits: int, numbers: list[int]) -> None:
    word_bits = 32 if ring_bits <= 32 else 64
    values = np.array([x % 2**word_bits for x in numbers], ring.word_dtype(ring_bits))
    ring.reduce(values, ring_bits)
    assert values.tolist() == [x % 2**ring_bits for x in numbers]


def test_words_are_as_wide_as_needed() -> None:
    assert [ring.word_dtype(bits) for bits in (1, 32, 33, 64)] == [np.uint32, np.uint32, np.uint64, np.uint64]


@pytest.mark.parametrize("ring_bits", [0, -1, 65])
def test_no_ring_outside_1_to_64_bits(ring_bits: int) -> None:
    with pytest.raises(ValueError, match=r"1\.\.64"):
        ring.word_dtype(ring_bits)


@pytest.mark.parametrize("operation", [ring.add, ring.subtract])
@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_other_lengths_are_refused_not_read_beyond(operation, dtype: type) -> None:
    with pytest.raises(ValueError, match="lengths differ"):
        operation(np.zeros(3, dtype), np.zeros(4, dtype))


def test_reduce_refuses_the_other_dtype() -> None:
    with pytest.raises(ValueError, match="kept in uint64"):
        ring.reduce(np.zeros(3, np.uint32), 33)


def test_mixed_dtypes_and_strided_vectors_are_refused() -> None:
    with pytest.raises(TypeError):
        ring.add(np.zeros(3, np.uint32), np.zeros(3, np.uint64))
    with pytest.raises(TypeError):
        ring.add(np.zeros(6, np.uint32)[::2], np.zeros(3, np.uint32))
