import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.uniform import fill_below

MASK = 2**10 - 1
WORDS = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([999, 1_000, MASK]))


@given(rows=st.lists(st.lists(WORDS, min_size=300, max_size=300), min_size=2, max_size=2), wanted=st.integers(0, 300))
def test_what_is_kept_is_what_is_below_in_its_order(rows, wanted):
    bounds = [1_000, 513]
    out = np.full((1, 2, wanted + 1), 7, np.uint32)
    enough = fill_below(np.array([rows], np.uint32), MASK, np.array(bounds, np.uint32), out[:, :, :wanted].copy())
    kept = [[word & MASK for word in row if word & MASK < bound] for row, bound in zip(rows, bounds, strict=True)]
    assert enough == all(len(words) >= wanted for words in kept)
    least = min(wanted, *map(len, kept))
    out = np.full((1, 2, least), 7, np.uint32)
    assert fill_below(np.array([rows], np.uint32), MASK, np.array(bounds, np.uint32), out)
    assert out[0].tolist() == [words[:least] for words in kept]


def test_too_few_draws_say_so_and_write_no_further():
    draws = np.full((2, 1, 64), 1_000, np.uint32)
    for bound, wanted, enough in ((1_000, 1, False), (1_001, 64, True), (1_001, 65, False)):
        out = np.full((2, 1, wanted), 7, np.uint32)
        assert fill_below(draws, MASK, np.array([bound], np.uint32), out) == enough


@pytest.mark.parametrize(
    ("draws", "bounds", "out"), [((1, 2, 9), 2, (2, 2, 3)), ((1, 2, 9), 2, (1, 1, 3)), ((1, 2, 9), 1, (1, 2, 3))]
)
def test_other_shapes_are_refused(draws, bounds, out):
    with pytest.raises(ValueError, match="shapes"):
        fill_below(np.zeros(draws, np.uint32), MASK, np.ones(bounds, np.uint32), np.zeros(out, np.uint32))
