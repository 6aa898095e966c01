"""Cut points from counts: where they lie, what they part, and what they don't depend on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.boosting.cuts import LARGEST, Cuts, Sketch, keys, numbers

CELLS, ROUNDS = 64, 6
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def cut_points(shards: list[np.ndarray], bins: int, rounds: int = ROUNDS, cells: int = CELLS) -> Cuts:
    sketch = Sketch.start(shards[0].shape[1], cells)
    for _ in range(rounds - 1):
        sketch = sketch.refined(sum(sketch.count(shard) for shard in shards))
    return sketch.cuts(sum(sketch.count(shard) for shard in shards), bins)


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


@given(st.lists(FLOATS, min_size=2, max_size=20))
def test_keys_order_as_numbers_do_and_come_back(values):
    array = np.array(values, np.float32)
    assert [float(x) for x in numbers(keys(array))] == [float(x) for x in array]
    assert np.array_equal(np.argsort(keys(array), kind="stable"), np.argsort(array, kind="stable"))


def test_zero_has_one_key_between_the_smallest_numbers():
    smallest = np.float32(1e-45)
    below, minus, plus, above = keys(np.array([-smallest, -0.0, 0.0, smallest], np.float32))
    assert below < minus == plus < above


@given(st.lists(FLOATS, min_size=1, max_size=12), st.integers(12, 16))
def test_enough_bins_part_all_values_that_differ(values, bins):
    data = np.array(values, np.float32)[:, None]
    cuts = cut_points([data], bins, rounds=40)
    found, distinct = cuts.bins(data, missing=bins)[:, 0], np.unique(data + np.float32(0.0))
    assert len(set(found)) == len(distinct)
    assert np.array_equal(found, np.searchsorted(distinct, data[:, 0] + np.float32(0.0)))


def test_cuts_are_near_the_quantiles():
    rng = np.random.default_rng(0)
    data = np.stack([rng.normal(size=5_000), rng.lognormal(sigma=3, size=5_000), -rng.exponential(1e-6, 5_000)], 1)
    data = data.astype(np.float32)
    cuts = cut_points([data], 20, rounds=4, cells=256)
    for values, feature in zip(cuts.values, data.T, strict=True):
        ranks = [(feature < cut).mean() for cut in values]
        assert len(values) == 19
        assert np.abs(np.array(ranks) - np.arange(1, 20) / 20).max() < 0.005


def test_each_bin_holds_records_and_missing_ones_have_their_own():
    data = np.random.default_rng(1).integers(0, 5, (300, 2)).astype(np.float32)
    data[::7, 0] = np.nan
    found = cut_points([data], 32).bins(data, missing=32)
    assert sorted(set(found[:, 0])) == [0, 1, 2, 3, 4, 32]
    assert np.count_nonzero(found[:, 0] == 32) == np.isnan(data[:, 0]).sum()


def test_a_gap_is_cut_in_its_middle():
    assert cut_points([column(0, 0, 1, 1)], 4, rounds=20).values == ((0.5,),)


@pytest.mark.parametrize("data", [column(7, 7, 7), column(np.nan, np.nan)])
def test_nothing_to_part(data):
    cuts = cut_points([data], 4)
    assert cuts.values == ((),)
    assert (cuts.left_of(0, 0), cuts.left_of(0, 1)) == (-LARGEST, LARGEST)


def test_cuts_don_t_depend_on_who_holds_which_record():
    data = np.random.default_rng(2).normal(size=(400, 3)).astype(np.float32)
    assert cut_points([data], 16) == cut_points([data[:10], data[10:11], data[11:]], 16)


def test_a_site_that_comes_later_is_counted_at_the_ends():
    sketch = Sketch.start(1, CELLS)
    sketch = sketch.refined(sketch.count(column(1, 2, 3)))
    counts = sketch.count(column(-5, 900))
    assert counts.sum() == 2
    assert counts[0, 0] == 1
