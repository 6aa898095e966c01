import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native import lanes
from tests.reference import lattice as twin

WIDTHS = st.integers(1, 31)


def mixed(numbers: np.random.Generator, bounds: list[int], columns: int) -> np.ndarray:
    """Row j below bounds[j]; a third each of zeros, of the largest value, and of anything."""
    rows = []
    for bound in bounds:
        kinds = numbers.integers(0, 3, columns)
        anything = numbers.integers(0, bound, columns)
        rows.append(np.where(kinds == 0, 0, np.where(kinds == 1, bound - 1, anything)))
    return np.array(rows, np.uint32).reshape(len(bounds), columns)


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """As a receiver sees it: read-only, and at an odd address."""
    rows, columns = values.shape
    out = np.full((rows, bits, columns // 32), 0xDEADBEEF, np.uint32)
    lanes.pack(values, out)
    raw = np.frombuffer(b"\0" + out.tobytes(), np.uint8)
    return np.frombuffer(raw[1:].data, np.uint32).reshape(out.shape)


@settings(deadline=None)
@given(bits=WIDTHS, rows=st.integers(0, 3), count=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_packing_is_the_twins(bits: int, rows: int, count: int, seed: int) -> None:
    values = mixed(np.random.default_rng(seed), [2**bits] * rows, 32 * count)
    data = packed(values, bits)
    assert data.tobytes() == b"".join(twin.packed(row, bits) for row in values.tolist())
    for row, own in zip(values.tolist(), data, strict=True):
        assert twin.unpacked(own.tobytes(), bits) == row


@settings(deadline=None)
@given(bits=WIDTHS, count=st.sampled_from([1, 2, 128]), seed=st.integers(0, 2**32), data=st.data())
def test_sums_are_those_of_plain_integers_in_any_order(bits: int, count: int, seed: int, data: st.DataObject) -> None:
    numbers, primes = np.random.default_rng(seed), data.draw(st.lists(st.integers(1, 2**bits - 1), max_size=3))
    parts = [mixed(numbers, primes, 32 * count) for _ in range(3)]
    total = np.zeros((len(primes), 32 * count), np.uint32)
    for k in data.draw(st.permutations(range(3))):
        lanes.add(total, packed(parts[k], bits), np.array(primes, np.uint32))
    moduli = np.array(primes, np.int64)[:, None]
    assert np.array_equal(total, np.sum(parts, axis=0, dtype=np.int64) % moduli)


@pytest.mark.parametrize("bits", [1, 8, 24, 25, 27, 30, 31])
def test_a_residue_that_is_one_too_large_is_seen_in_every_place(bits: int) -> None:
    prime = 2**bits - 1 if bits > 1 else 1
    bounds = np.array([prime, 2**bits - 1, prime], np.uint32)
    values = np.repeat(bounds[:, None] - np.uint32(1), 64, axis=1)
    assert lanes.all_below(packed(values, bits), bounds) is True
    for row in range(3):
        for column in range(64):
            bad = values.copy()
            bad[row, column] = bounds[row]
            assert lanes.all_below(packed(bad, bits), bounds) is False


def test_nothing_is_below_anything() -> None:
    assert lanes.all_below(np.zeros((0, 25, 4), np.uint32), np.zeros(0, np.uint32)) is True


def test_other_shapes_are_refused_not_read_beyond() -> None:
    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.uint32)

    for values, out in (((3, 63), (3, 25, 2)), ((2, 64), (3, 25, 2)), ((3, 64), (3, 32, 2)), ((3, 64), (3, 0, 2))):
        with pytest.raises(ValueError, match="shapes"):
            lanes.pack(zeros(*values), zeros(*out))
        with pytest.raises(ValueError, match="shapes"):
            lanes.add(zeros(*values), zeros(*out), zeros(3))
    for out, bounds in (((3, 25, 2), 2), ((3, 32, 2), 3), ((3, 0, 2), 3)):
        with pytest.raises(ValueError, match="shapes"):
            lanes.all_below(zeros(*out), zeros(bounds))
    with pytest.raises(ValueError, match="shapes"):
        lanes.add(zeros(3, 64), zeros(3, 25, 2), zeros(2))
