import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import field
from tests.reference import gf16

elements = st.integers(0, 65535)


def array(values: object) -> np.ndarray:
    return np.array(values, np.uint32)


def product(a: int, b: int) -> int:
    out = array([0])
    field.weighted_sum(array([[a]]), array([b]), out)
    return int(out[0])


@given(elements, elements)
def test_products_agree_with_the_table_free_twin(a: int, b: int) -> None:
    assert product(a, b) == gf16.multiply(a, b)


def test_products_of_powers_of_x() -> None:
    """All 256 products of single bits: multiplication is linear in both, so these decide every product."""
    bits = [1 << i for i in range(16)]
    assert [product(a, b) for a in bits for b in bits] == [gf16.multiply(a, b) for a in bits for b in bits]


@given(st.data(), st.integers(1, 6), st.integers(1, 5))
def test_evaluation_agrees(data: st.DataObject, threshold: int, words: int) -> None:
    rows = data.draw(
        st.lists(st.lists(elements, min_size=words, max_size=words), min_size=threshold, max_size=threshold)
    )
    points = data.draw(st.lists(st.integers(1, 65535), min_size=1, max_size=7))
    out = np.zeros((len(points), words), np.uint32)
    field.evaluate(array(rows), array(points), out)
    assert out.tolist() == gf16.split(rows[0], rows[1:], points)


@given(st.lists(st.integers(1, 65535), min_size=1, max_size=6, unique=True))
def test_lagrange_weights_agree(points: list[int]) -> None:
    out = array([0] * len(points))
    field.lagrange_at_zero(array(points), out)
    assert out.tolist() == gf16.lagrange_at_zero(points)


@given(st.data(), st.integers(1, 6), st.integers(1, 20))
def test_weighted_sums_agree(data: st.DataObject, count: int, words: int) -> None:
    shares = data.draw(st.lists(st.lists(elements, min_size=words, max_size=words), min_size=count, max_size=count))
    weights = data.draw(st.lists(elements, min_size=count, max_size=count))
    out = array([0] * words)
    field.weighted_sum(array(shares), array(weights), out)
    expected = [0] * words
    for share, weight in zip(shares, weights, strict=True):
        expected = [total ^ gf16.multiply(word, weight) for total, word in zip(expected, share, strict=True)]
    assert out.tolist() == expected


def test_other_shapes_are_refused_not_read_beyond() -> None:
    zeros = np.zeros
    with pytest.raises(ValueError, match="shapes"):
        field.evaluate(zeros((2, 3), np.uint32), zeros(4, np.uint32), zeros((4, 2), np.uint32))
    with pytest.raises(ValueError, match="shapes"):
        field.evaluate(zeros((2, 3), np.uint32), zeros(4, np.uint32), zeros((5, 3), np.uint32))
    with pytest.raises(ValueError, match="lengths"):
        field.lagrange_at_zero(zeros(4, np.uint32), zeros(3, np.uint32))
    with pytest.raises(ValueError, match="shapes"):
        field.weighted_sum(zeros((2, 3), np.uint32), zeros(3, np.uint32), zeros(3, np.uint32))
    with pytest.raises(ValueError, match="shapes"):
        field.weighted_sum(zeros((2, 3), np.uint32), zeros(2, np.uint32), zeros(4, np.uint32))
