import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.runs import multiply


@given(
    runs=st.lists(st.tuples(st.integers(0, 9), st.floats(-1e9, 1e9)), max_size=8),
    dtype=st.sampled_from([np.float32, np.float64, np.int64]),
)
def test_each_run_has_its_number(runs: list[tuple[int, float]], dtype: type) -> None:
    lengths, numbers = [length for length, _ in runs], [number for _, number in runs]
    values = np.arange(1, sum(lengths) + 1).astype(dtype)
    expected = values.astype(np.float64) * np.repeat(np.array(numbers, np.float64), lengths)
    out = np.full(values.size, np.nan)
    ends, by = np.cumsum(lengths, dtype=np.int64), np.array(numbers, np.float64)
    multiply(values, ends, by, out)
    np.testing.assert_array_equal(out, expected)
    in_place = values.astype(np.float64)
    multiply(in_place, ends, by, in_place)
    np.testing.assert_array_equal(in_place, expected)


def test_what_overflows_is_infinite() -> None:
    out = np.zeros(3)
    multiply(np.array([1e300, -1e300, 1.0]), np.array([3]), np.array([1e20]), out)
    assert out.tolist() == [np.inf, -np.inf, 1e20]


@pytest.mark.parametrize(
    ("values", "ends", "by", "out", "named"),
    [
        (4, [2, 4], 2, 5, "lengths differ"),
        (4, [2, 4], 1, 4, "lengths differ"),
        (4, [2, 5], 2, 4, "out of order"),
        (4, [5, 4], 2, 4, "out of order"),
        (4, [3, 2, 4], 3, 4, "out of order"),
        (4, [-1, 4], 2, 4, "out of order"),
        (4, [2, 3], 2, 4, "do not reach the last value"),
        (4, [], 0, 4, "do not reach the last value"),
    ],
)
def test_runs_that_do_not_fit_are_refused_not_written_beyond(
    values: int, ends: list[int], by: int, out: int, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        multiply(np.zeros(values), np.array(ends, np.int64), np.ones(by), np.zeros(out))
