import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native import longs


def mixed(numbers: np.random.Generator, bounds: list[int], columns: int) -> np.ndarray:
    """Row j of both polynomials below bounds[j]; a third each of zeros, of the largest value, and of anything."""
    shape = (2, len(bounds), columns)
    largest = np.array(bounds, np.uint64)[:, None] - np.uint64(1)
    anything = numbers.integers(0, np.broadcast_to(largest, shape), shape, np.uint64, endpoint=True)
    kinds = numbers.integers(0, 3, shape)
    return np.where(kinds == 0, np.uint64(0), np.where(kinds == 1, largest, anything))


def unaligned(values: np.ndarray) -> np.ndarray:
    """The same, read-only, one byte behind an aligned address."""
    return np.frombuffer(b"\0" + values.tobytes(), np.uint64, offset=1).reshape(values.shape)


@settings(deadline=None)
@given(st.lists(st.integers(1, 2**62), max_size=3), st.integers(0, 40), st.integers(0, 2**32))
def test_sums_agree_with_plain_integers(primes: list[int], columns: int, seed: int) -> None:
    numbers, bounds = np.random.default_rng(seed), np.array(primes, np.uint64)
    left, right = mixed(numbers, primes, columns), mixed(numbers, primes, columns)
    total, received = left.copy(), unaligned(right)
    assert longs.all_below(received, bounds) is True
    longs.add(total, received, bounds)
    moduli = np.array(primes, object)[:, None]
    assert np.array_equal(total, (left.astype(object) + right) % moduli)
    longs.subtract(total, received, bounds)
    assert np.array_equal(total, left)
    longs.subtract(total, received, bounds)
    assert np.array_equal(total, (left.astype(object) - right) % moduli)


@pytest.mark.parametrize("columns", [1, 15, 64, 8192])
def test_all_below_sees_a_residue_that_is_one_too_large_anywhere(columns: int) -> None:
    primes = np.array([2**60 - 93, 2**40 - 87], np.uint64)
    values = np.repeat(np.stack([primes, primes])[:, :, None] - np.uint64(1), columns, axis=2)
    assert longs.all_below(unaligned(values), primes) is True
    for place in itertools.product((0, 1), (0, 1), {0, columns // 2, columns - 1}):
        for wrong in (primes[place[1]], np.uint64(2**64 - 1)):
            bad = values.copy()
            bad[place] = wrong
            assert longs.all_below(unaligned(bad), primes) is False


def test_shapes_that_do_not_fit_are_refused() -> None:
    primes, values = np.array([5, 7], np.uint64), np.zeros((2, 2, 8), np.uint64)
    with pytest.raises(ValueError, match=r"longs\.all_below"):
        longs.all_below(values, primes[:1])
    for operation in (longs.add, longs.subtract):
        for total, moduli in ((values[:1], primes), (np.zeros((2, 2, 7), np.uint64), primes), (values, primes[:1])):
            with pytest.raises(ValueError, match=f"longs.{operation.__name__}"):
                operation(total, values, moduli)
