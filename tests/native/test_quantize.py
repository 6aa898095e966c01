import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.quantize import LIMIT_MAX, first_non_finite, quantize
from tests.reference import quantize as reference

CLIP = 4.0


def run(values: list[float], bits: int, draws: list[int], dtype: type) -> tuple[list[int], int]:
    limit = reference.zero_point(bits)
    out = np.zeros(len(values), dtype)
    clipped, bad = quantize(np.array(values, np.float64), 1.0 / (CLIP / limit), limit, np.array(draws, np.uint64), out)
    assert bad == -1
    return out.tolist(), clipped


@given(
    bits=st.integers(2, 54),
    entries=st.lists(
        st.tuples(st.one_of(st.floats(-5, 5), st.floats(-1e280, 1e280)), st.integers(0, 2**64 - 1)),
        max_size=40,
    ),
)
def test_agrees_with_plain_floats(bits: int, entries: list[tuple[float, int]]) -> None:
    values, draws = [x for x, _ in entries], [d for _, d in entries]
    expected = reference.quantize(values, CLIP, bits, draws)
    for dtype in [np.uint64, *([np.uint32] if bits <= 32 else [])]:
        assert run(values, bits, draws, dtype)[0] == expected


@given(
    values=st.lists(st.floats(-100, 100, width=32), max_size=40),
    share=st.floats(1e-6, 1),
    clip=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**32),
)
def test_the_product_is_rounded_once_and_in_float64(values: list[float], share: float, clip: float, seed: int) -> None:
    """Whatever the width of the values."""
    draws = np.random.default_rng(seed).integers(0, 2**64 - 1, len(values), np.uint64)
    expected = reference.quantize(values, clip, 8, draws.tolist(), share)
    for dtype in (np.float32, np.float64):
        out = np.zeros(len(values), np.uint32)
        quantize(np.array(values, dtype), share / (clip / 127), 127, draws, out)
        assert out.tolist() == expected


def test_counts_what_was_clipped() -> None:
    words, clipped = run([0.0, 3.9, 4.5, -1e300, 1e300, -4.5], 8, [0] * 6, np.uint32)
    assert words == [127, 251, 254, 0, 254, 0]
    assert clipped == 4


def test_a_whole_step_never_moves() -> None:
    assert run([0.0] * 2, 8, [0, 2**64 - 1], np.uint32)[0] == [127, 127]


def test_the_share_of_draws_that_round_up_is_the_fraction() -> None:
    draws = [(i << 56) + 1 for i in range(256)]
    step = CLIP / 127
    words, _ = run([10.25 * step] * 256, 8, draws, np.uint32)
    assert words.count(138) == 64
    assert words.count(137) == 192


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("place", [0, 1, 8, 99])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_non_finite_value_is_named(place: int, bad: float, dtype: type) -> None:
    values = np.zeros(100, dtype)
    values[place] = bad
    values[-1] = np.nan
    values.flags.writeable = False
    assert first_non_finite(values) == place
    assert quantize(values, 1.0, 7, np.zeros(100, np.uint64), np.zeros(100, np.uint32))[1] == place


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_finite_values_pass(dtype: type) -> None:
    largest = np.finfo(dtype).max
    for values in (np.array([0.0, largest, -largest, np.finfo(dtype).smallest_subnormal], dtype), np.zeros(0, dtype)):
        assert first_non_finite(values) == -1
        out = np.zeros(values.size, np.uint64)
        assert quantize(values, 1e9, LIMIT_MAX, np.zeros(values.size, np.uint64), out)[1] == -1


@pytest.mark.parametrize("lengths", [(3, 4, 4), (4, 3, 4), (4, 4, 3)])
def test_other_lengths_are_refused_not_read_beyond(lengths: tuple[int, int, int]) -> None:
    values, draws, out = lengths
    with pytest.raises(ValueError, match="lengths differ"):
        quantize(np.zeros(values), 1.0, 7, np.zeros(draws, np.uint64), np.zeros(out, np.uint32))


@pytest.mark.parametrize("ratio", [0.0, -1.0, np.inf, np.nan])
def test_impossible_ratios_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        quantize(np.zeros(1), ratio, 7, np.zeros(1, np.uint64), np.zeros(1, np.uint32))


@pytest.mark.parametrize(("limit", "dtype"), [(0, np.uint32), (2**31, np.uint32), (LIMIT_MAX + 1, np.uint64)])
def test_limits_that_could_overflow_are_refused(limit: int, dtype: type) -> None:
    with pytest.raises(ValueError, match="limit"):
        quantize(np.zeros(1), 1.0, limit, np.zeros(1, np.uint64), np.zeros(1, dtype))
