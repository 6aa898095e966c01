import math
from fractions import Fraction
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.crypto import keystream
from native import gaussian
from tests.reference import gaussian as twin

VARIANCES = [gaussian.KEY_VARIANCE, gaussian.ERROR_VARIANCE]
ENOUGH = 140  # magnitudes: P[|X| >= 140] is below 2^-340 at std 6.364
TOP = 2**63


def table_of(variance: Fraction) -> list[int]:
    return [int(entry) for entry in gaussian.cumulative_table(variance)]


def sample(draws: object, table: object) -> np.ndarray:
    words = np.array(draws, np.uint64)
    out = np.full(len(words), 99, np.int32)
    gaussian.sample(words, np.array(table, np.int64), out)
    return out


def stream(samples: int) -> np.ndarray:
    return keystream.words(bytes(range(32)), bytes(32), "error", samples, 64)


def test_the_twin_agrees_with_floating_point() -> None:
    for exponent in (Fraction(0), Fraction(1, 81), Fraction(7, 3), Fraction(50)):
        assert twin.exponential(exponent) / twin.ONE == pytest.approx(math.exp(-exponent), rel=1e-14)


@pytest.mark.parametrize("variance", [*VARIANCES, Fraction(1, 3), Fraction(1), Fraction(401, 7), Fraction(3000)])
def test_entries_are_the_rounded_cumulative_probabilities(variance: Fraction) -> None:
    """Each entry is exact to 2^-64, and the table stops exactly where an entry would round to 2^63."""
    weights = twin.weights(variance, 15 * math.isqrt(math.ceil(variance)) + 15)
    rounded = [round(Fraction(TOP * below, sum(weights))) for below in accumulate(weights)]
    assert table_of(variance) == [entry for entry in rounded if entry < TOP]


@pytest.mark.parametrize(
    ("variance", "largest", "distance"),
    [(gaussian.KEY_VARIANCE, 41, 2**-60.4), (gaussian.ERROR_VARIANCE, 58, 2**-59.8)],
)
def test_statistical_distance_and_tail_are_as_stated(variance: Fraction, largest: int, distance: float) -> None:
    table, weights = table_of(variance), twin.weights(variance, ENOUGH)
    assert len(table) == largest
    assert largest / math.sqrt(variance) == pytest.approx(9.11, abs=0.005)
    ends = [0, *table, TOP]
    made = [Fraction(stop - start, TOP) for start, stop in pairwise(ends)]
    made += [Fraction(0)] * (ENOUGH - len(made))
    found = sum(abs(a - Fraction(b, sum(weights))) for a, b in zip(made, weights, strict=True)) / 2
    assert distance / 1.1 < found < distance
    assert all(probability > 0 for probability in made[: largest + 1])


def test_zero_has_half_the_weight_of_a_pair() -> None:
    """A folded table that gave |X| = 0 the weight of two signs would draw zeros twice as often."""
    table = table_of(gaussian.KEY_VARIANCE)
    assert (table[1] - table[0]) / table[0] == pytest.approx(2 * math.exp(-2 / 81), rel=1e-12)


@pytest.mark.parametrize("variance", VARIANCES)
def test_every_boundary_draw(variance: Fraction) -> None:
    table = table_of(variance)
    below, at = [entry - 1 for entry in table], table
    ranks = np.arange(len(table))
    assert sample(below, table).tolist() == ranks.tolist()
    assert sample(at, table).tolist() == (ranks + 1).tolist()
    assert sample([TOP + draw for draw in below], table).tolist() == (-ranks).tolist()
    assert sample([TOP + draw for draw in at], table).tolist() == (-ranks - 1).tolist()
    assert sample([0, TOP, TOP - 1, 2**64 - 1], table).tolist() == [0, 0, len(table), -len(table)]


def test_signs_mirror_each_other() -> None:
    draws = stream(10_000)
    table = table_of(gaussian.ERROR_VARIANCE)
    assert np.array_equal(sample(draws, table), -sample(draws ^ np.uint64(TOP), table))


@given(
    samples=st.sampled_from([0, 1, 7, 8, 63, 255, 256, 257, 511, 515]),
    entries=st.integers(0, 20),
    seed=st.integers(0, 2**32),
)
def test_agrees_with_the_twin_for_every_length(samples: int, entries: int, seed: int) -> None:
    """Whole and partial blocks of samples, whole and partial passes over the table."""
    numbers = np.random.default_rng(seed)
    table = np.sort(numbers.integers(0, TOP, entries, dtype=np.int64)).tolist()
    draws = numbers.integers(0, 2**64, samples, dtype=np.uint64).tolist()
    assert sample(draws, table).tolist() == [twin.draw(word, table) for word in draws]


@pytest.mark.parametrize("variance", VARIANCES)
def test_chi_square_against_the_exact_probabilities(variance: Fraction) -> None:
    samples = 1 << 20
    values = sample(stream(samples), table_of(variance))
    weights = twin.weights(variance, ENOUGH)
    exact = [weight / sum(weights) for weight in weights]
    last = next(k for k in range(ENOUGH) if samples * sum(exact[k:]) / 2 < 20) - 1  # at least 20 in each tail
    expected = {x: samples * exact[abs(x)] / (1 if x == 0 else 2) for x in range(-last + 1, last)}
    expected[-last] = expected[last] = samples * sum(exact[last:]) / 2
    found = dict(zip(*np.unique(np.clip(values, -last, last), return_counts=True), strict=True))
    statistic = sum((found.get(x, 0) - mean) ** 2 / mean for x, mean in expected.items())
    freedom = len(expected) - 1
    assert abs(statistic - freedom) < 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("summands", [1, 10, 100])
def test_variance_of_sums(variance: Fraction, summands: int) -> None:
    sums = sample(stream(1 << 20), table_of(variance))[: (1 << 20) // summands * summands]
    sums = sums.reshape(-1, summands).sum(axis=1, dtype=np.int64)
    found = float(np.mean(sums.astype(np.float64) ** 2))
    assert found / (summands * float(variance)) == pytest.approx(1, abs=4 * math.sqrt(2 / len(sums)))
    assert abs(float(np.mean(sums))) < 4 * math.sqrt(summands * float(variance) / len(sums))


def test_the_table_is_read_only_and_the_variances_are_the_protocols() -> None:
    assert not gaussian.cumulative_table(gaussian.KEY_VARIANCE).flags.writeable
    assert Fraction(9, 2) ** 2 == gaussian.KEY_VARIANCE
    assert 2 * gaussian.KEY_VARIANCE == gaussian.ERROR_VARIANCE


@pytest.mark.parametrize("variance", [Fraction(0), Fraction(-1), Fraction(1, 101), Fraction(10**6 + 1)])
def test_variances_that_make_no_sense_are_refused(variance: Fraction) -> None:
    with pytest.raises(ValueError, match="no table"):
        gaussian.cumulative_table(variance)


@pytest.mark.parametrize("samples", [2, 4])
def test_other_lengths_are_refused_not_read_beyond(samples: int) -> None:
    table = gaussian.cumulative_table(gaussian.KEY_VARIANCE)
    with pytest.raises(ValueError, match="lengths differ"):
        gaussian.sample(np.zeros(3, np.uint64), table, np.zeros(samples, np.int32))
