import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.hadamard import flip, walsh_hadamard


@given(st.integers(0, 6), st.integers(0, 3), st.integers(0, 2**32))
def test_agrees_with_the_matrix(order: int, blocks: int, seed: int) -> None:
    """Entry (i, j) of the matrix is (-1)^popcount(i & j) / sqrt(block)."""
    block = 2**order
    values = np.random.default_rng(seed).normal(size=block * blocks)
    matrix = np.array([[(-1.0) ** (i & j).bit_count() for j in range(block)] for i in range(block)]) / np.sqrt(block)
    expected = (values.reshape(blocks, block) @ matrix).ravel()
    walsh_hadamard(values, block)
    np.testing.assert_allclose(values, expected, atol=1e-12)


def test_is_its_own_inverse_and_keeps_the_norm() -> None:
    values = np.random.default_rng(1).normal(size=4096)
    rotated = values.copy()
    walsh_hadamard(rotated, 4096)
    assert np.linalg.norm(rotated) == pytest.approx(np.linalg.norm(values))
    walsh_hadamard(rotated, 4096)
    np.testing.assert_allclose(rotated, values, atol=1e-12)


@pytest.mark.parametrize(("entries", "block"), [(6, 3), (6, 4), (4, 0), (4, -4), (4, 8)])
def test_other_blocks_are_refused(entries: int, block: int) -> None:
    with pytest.raises(ValueError, match="blocks of"):
        walsh_hadamard(np.zeros(entries), block)


def test_flip_changes_the_signs_that_it_is_told() -> None:
    values = np.array([1.5, -2.0, 3.0, 0.0, np.inf])
    flip(values, np.array([0, 1, 1, 1, 2], np.uint32))
    assert values.tolist() == [1.5, 2.0, -3.0, 0.0, -np.inf]


@pytest.mark.parametrize(("values", "bits"), [(3, 4), (4, 3)])
def test_flip_reads_nothing_beyond(values: int, bits: int) -> None:
    with pytest.raises(ValueError, match="lengths differ"):
        flip(np.zeros(values), np.zeros(bits, np.uint32))
