import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from native.uniform import keep_below

MASK = 2**10 - 1


@given(
    draws=st.lists(st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([999, 1_000, MASK])), max_size=400),
    wanted=st.integers(0, 300),
)
def test_what_is_kept_is_what_is_below_in_its_order(draws, wanted):
    kept = [word & MASK for word in draws if word & MASK < 1_000][:wanted]
    out = np.full(wanted + 1, 7, np.uint32)
    assert keep_below(np.array(draws, np.uint32), MASK, 1_000, out[:wanted]) == len(kept)
    assert out[: len(kept)].tolist() == kept
    assert out[wanted] == 7


def test_too_few_draws_say_so():
    draws = np.full(64, 1_000, np.uint32)
    assert keep_below(draws, MASK, 1_000, np.empty(4, np.uint32)) == 0
    assert keep_below(draws, MASK, 1_001, np.empty(65, np.uint32)) == 64
