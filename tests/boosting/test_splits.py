"""Split finding beside its slow twin: the same split, gain and sums, to the bit, ties and missing values included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.boosting.splits import Sums, best_split, weight
from tests.boosting.study import settings
from tests.reference import boosting as twin

RULES = [
    {},
    {"reg_alpha": 0.5, "gamma": 0.3, "min_child_weight": 0.25},
    {"reg_lambda": 0.0, "min_child_weight": 0.0},
    {"reg_lambda": 0.1, "min_child_weight": 4.0},
]
STEP = 2.0**-30


def check(g: np.ndarray, h: np.ndarray, rule: dict[str, float]) -> bool:
    """Whether a split was found; the same by both."""
    whole = (float(g[0].sum()), float(h[0].sum()))
    pairs = [
        [(float(a), float(b)) for a, b in zip(*rows, strict=True)] for rows in zip(g[:, :-1], h[:, :-1], strict=True)
    ]
    expected, got = twin.best_split(pairs, whole, twin.Rule(**rule)), best_split(g, h, settings(**rule))
    if expected is None or got is None:
        assert got is expected
        return False
    assert (got.feature, got.first_right, got.default_left) == (
        expected.feature,
        expected.first_right,
        expected.default_left,
    )
    assert (got.gain, got.left, got.right) == (expected.gain, Sums(*expected.left), Sums(*expected.right))
    return True


def histograms(rng: np.random.Generator, records: int, features: int, bins: int, missing: float) -> tuple:
    first = np.rint(rng.uniform(-1, 1, records) / STEP) * STEP
    second = np.rint(rng.uniform(0, 0.25, records) / STEP) * STEP
    at = np.where(rng.random((features, records)) < missing, bins, rng.integers(0, bins, (features, records)))
    return tuple(np.stack([np.bincount(row, each, bins + 1) for row in at]) for each in (first, second))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_random_histograms(rule, missing):
    rng = np.random.default_rng(0)
    found = [
        check(*histograms(rng, int(rng.integers(1, 300)), 3, int(rng.integers(2, 12)), missing), rule)
        for _ in range(150)
    ]
    assert any(found)


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 3)), min_size=24, max_size=24), st.sampled_from(RULES))
def test_small_numbers_which_tie(pairs, rule):
    g, h = (np.array([pair[i] for pair in pairs], float).reshape(3, 8) for i in (0, 1))
    g[:, -1] += g[0].sum() - g.sum(axis=1)  # all features hold the same records
    h[:, -1] += h[0].sum() - h.sum(axis=1)
    check(g, h, rule)


def test_of_equal_features_the_first_wins_and_missing_values_go_right_where_there_are_none():
    g = np.array([[-4.0, 4.0, 0.0], [-4.0, 4.0, 0.0]])
    split = best_split(g, np.full((2, 3), 4.0) * [1, 1, 0], settings())
    assert split is not None
    assert (split.feature, split.first_right, split.default_left) == (0, 1, False)


def test_missing_values_go_where_they_belong():
    for sign, left in ((-1.0, True), (1.0, False)):
        split = best_split(np.array([[-4.0, 4.0, 3.0 * sign]]), np.full((1, 3), 4.0), settings())
        assert split is not None
        assert split.default_left is left


@given(st.floats(-100, 100), st.just(0.0) | st.floats(1e-6, 100), st.sampled_from(RULES))
def test_weights(g, h, rule):
    assert float(weight(Sums(g, h), settings(**rule))) == twin.Rule(**rule).weight(g, h)
