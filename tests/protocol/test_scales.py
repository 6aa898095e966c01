"""A scale for each tensor: every one has its own accuracy, rotated or not, and its own bound in the result."""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aggregator.protocol import encoding
from aggregator.protocol.parameters import CLIP_LEAST, CLIP_MOST
from aggregator.wire.messages import Tensor
from tests.encoded import BLOCK, CTX0, SEED, backwards, encode, rounded, signs, total_of, transform
from tests.harness import parameters
from tests.reference import keystream as twin_keystream
from tests.reference import quantize as twin

CLIPS = st.floats(-6.0, 6.0).map(lambda exponent: 10.0**exponent)
CLIPPED_TENSORS = st.lists(st.tuples(st.integers(1, 7), CLIPS), min_size=1, max_size=6)
"""Sizes and clips of a few tensors, twelve decades apart at most."""


def several(sizes_and_clips, clients=4, **changes):
    tensors = tuple(Tensor(f"t{i}", (size,), clip) for i, (size, clip) in enumerate(sizes_and_clips))
    return parameters(clients, tensors=tensors, clip=1e3, **changes)


@settings(deadline=None)
@given(
    sizes_and_clips=CLIPPED_TENSORS,
    value_bits=st.sampled_from([2, 8, 16, 31, 54]),
    weight=st.integers(1, 40),
    rotate=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_tensors_with_clips_of_their_own_are_the_twins(sizes_and_clips, value_bits, weight, rotate, seed):
    """Both ways, to the last bit."""
    made = several(sizes_and_clips, value_bits=value_bits, weight_max=40, rotate=rotate)
    rng = np.random.default_rng(seed)
    update = {tensor.name: rng.uniform(-1.3, 1.3, tensor.shape) * tensor.clip for tensor in made.tensors}
    draws, negative = twin_keystream.draws(SEED, CTX0, made.coded_entries), []
    if rotate:
        negative = [bool(w) for w in twin_keystream.words(CTX0, CTX0, "rotation", made.coded_entries, 1)]
    rows = [(update[tensor.name].tolist(), tensor.clip) for tensor in made.tensors]
    words = encoding.encode(update, weight, made, CTX0, SEED).words
    coded = words[: made.coded_entries].tolist()
    assert coded == twin.encode(rows, weight / 40, value_bits, draws, negative)
    clips = [tensor.clip for tensor in made.tensors for _ in range(tensor.shape[0])]
    mean = np.concatenate([*encoding.decode(words, 1, made, CTX0).mean.values()])
    assert mean.tolist() == twin.decode(coded, 1, clips, value_bits, 40, weight, negative)


@settings(deadline=None, max_examples=150)
@given(
    sizes_and_clips=CLIPPED_TENSORS,
    n=st.integers(1, 8),
    value_bits=st.integers(2, 54),
    rotate=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_each_tensors_own_error_bound_holds(sizes_and_clips, n, value_bits, rotate, seed):
    made = several(sizes_and_clips, max(n, 2), value_bits=value_bits, weight_max=1000, rotate=rotate)
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 1000, n, endpoint=True).tolist()
    reach = 0.99 / math.sqrt(made.rotation_block)
    updates = [
        {t.name: rng.choice([-1, -0.9, 0.3, 0, 1], t.shape) * rng.random() * t.clip * reach for t in made.tensors}
        for _ in weights
    ]
    encoded = [encode(u, w, made, i) for i, (u, w) in enumerate(zip(updates, weights, strict=True))]
    assume(not any(each.clipped_entries for each in encoded))
    decoded = encoding.decode(total_of(encoded, made), n, made, CTX0)
    for name, mean in decoded.mean.items():
        for i, got in enumerate(mean.tolist()):
            exact = sum(Fraction(u[name][i]) * w for u, w in zip(updates, weights, strict=True)) / sum(weights)
            assert abs(Fraction(got) - exact) <= Fraction(decoded.error_bounds[name]), name
    assert decoded.error_bound == max(decoded.error_bounds.values())


def test_the_bounds_count_the_roundings_of_floats():
    """At 54 bits a step is a float64's last digit: the arithmetic errs by more, yet by less than the bound."""
    made = several([(500, 3e-3), (500, 7e2)], value_bits=54, weight_max=7)
    rng = np.random.default_rng(2)
    worst_steps = {tensor.name: 0.0 for tensor in made.tensors}
    for weight in range(1, 8):
        update = {t.name: rng.uniform(-1, 1, t.shape) * t.clip * 7 / weight for t in made.tensors}
        decoded = encoding.decode(encode(update, weight, made).words, 1, made, CTX0)
        for name, scale in zip(update, made.scales, strict=True):
            pairs = zip(decoded.mean[name].tolist(), update[name].tolist(), strict=True)
            error = max(abs(Fraction(got) - Fraction(exact)) for got, exact in pairs)
            assert error <= Fraction(decoded.error_bounds[name])
            worst_steps[name] = max(worst_steps[name], float(error / Fraction(scale) * weight / 7))
    assert min(worst_steps.values()) > 1.2, worst_steps


@pytest.mark.parametrize("rotate", [False, True])
def test_a_small_tensor_keeps_its_accuracy_beside_large_ones(rotate):
    """Of clips from 1e-6 to 1e6 each has an error in its own proportion; under one clip the small are all but lost."""
    scales_of_ten = [10.0**exponent for exponent in range(-6, 7, 2)]
    rng = np.random.default_rng(8)
    updates = [{f"t{i}": rng.uniform(-0.1, 0.1, 90) * c for i, c in enumerate(scales_of_ten)} for _ in range(3)]
    own = several([(90, clip) for clip in scales_of_ten], rotate=rotate, weight_max=9)
    one = several([(90, 0.0)] * len(scales_of_ten), rotate=rotate, weight_max=9)
    one = dataclasses.replace(one, clip=1e6)
    means = {}
    for made in (own, one):
        encoded = [encode(update, 9, made, i) for i, update in enumerate(updates)]
        assert not any(each.clipped_entries for each in encoded)
        means[made] = encoding.decode(total_of(encoded, made), 3, made, CTX0)
    for i, clip in enumerate(scales_of_ten):
        exact = sum(update[f"t{i}"] for update in updates) / 3
        within = [np.abs(means[made].mean[f"t{i}"] - exact).max() / clip for made in (own, one)]
        steps = made.rotation_block**0.5 / 32767  # one step of each client is one of the mean
        assert means[own].error_bounds[f"t{i}"] == pytest.approx(clip * steps)
        assert within[0] <= 1.001 * steps
        if clip <= 1e-2:
            assert within[1] > 0.01, "not one digit is right"
    smallest = means[one].mean["t0"]
    assert rotate or np.count_nonzero(smallest) < 3, "the smallest are zeros"


def test_a_rotation_spreads_an_outlier_over_its_neighbours_in_steps():
    """An outlier of 20 clips in a small tensor survives, and so does what stands beside it in a large one."""
    made = several([(2048, 1e-3), (2048, 1e3)], rotate=True, weight_max=1)
    update = {"t0": np.zeros(2048), "t1": np.full(2048, 5.0)}
    update["t0"][17] = 0.02
    encoded = encode(update, 1, made)
    assert encoded.clipped_entries == 0
    decoded = encoding.decode(encoded.words, 1, made, CTX0)
    np.testing.assert_allclose(decoded.mean["t0"], update["t0"], rtol=0, atol=decoded.error_bounds["t0"])
    np.testing.assert_allclose(decoded.mean["t1"], update["t1"], rtol=0, atol=decoded.error_bounds["t1"])
    assert decoded.error_bounds["t0"] < 1e-5 < decoded.error_bounds["t1"]


@pytest.mark.parametrize("value_bits", [2, 16, 54])
@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize(("least", "most"), [(CLIP_LEAST, CLIP_MOST), (CLIP_LEAST, CLIP_LEAST), (CLIP_MOST, CLIP_MOST)])
def test_the_extremes_of_clips_and_weights_come_back(value_bits, rotate, least, most):
    """Neither steps of zero nor infinite means, from the lightest client among heavy ones to the heaviest."""
    made = several([(3, least), (2, most)], value_bits=value_bits, rotate=rotate, weight_max=2**53)
    for weight in (1, 2**53):
        update = {"t0": np.full(3, least / 4), "t1": np.full(2, -most / 4)}
        decoded = encoding.decode(encode(update, weight, made).words, 1, made, CTX0)
        for name, mean in decoded.mean.items():
            assert 0 < decoded.error_bounds[name] < math.inf
            assert np.abs(mean - update[name]).max() <= decoded.error_bounds[name]


@pytest.mark.parametrize("rotate", [False, True])
def test_long_rows_of_many_tensors_are_worked_through_as_short_ones(rotate):
    """Pieces of one clip, pieces of several, tensors over a piece's end, whoever encodes which."""
    sizes = [3, 1, 200, encoding.PIECE_ENTRIES, 2 * BLOCK, 5, 1, 40_000, 30_000]
    clips = [1e-3, 1e3, 2.0, 2.0, 5.0, 1e-6, 1e-6, 7.0, 1e6]
    made = several(list(zip(sizes, clips, strict=True)), rotate=rotate, weight_max=40)
    rng = np.random.default_rng(4)
    update = {t.name: (rng.normal(size=t.shape) * t.clip).astype(np.float32) for t in made.tensors}
    share = np.concatenate([np.full(size, 39 / 40 / (clip / 32767)) for size, clip in zip(sizes, clips, strict=True)])
    row = np.zeros(made.coded_entries)
    row[: share.size] = np.concatenate([*update.values()]).astype(np.float64) * share
    words, clipped = rounded(transform(row * signs(made), 4096) if rotate else row, made, SEED)
    steps = rng.integers(0, 3 * 2 * made.zero_point, made.coded_entries, endpoint=True)
    mean = (steps - 3 * made.zero_point).astype(float)
    mean = (transform(mean, 4096) * signs(made) if rotate else mean)[: share.size]
    mean *= np.concatenate([np.full(size, clip / 32767 * 40 / 70) for size, clip in zip(sizes, clips, strict=True)])
    with ThreadPoolExecutor(3) as pool:
        for each in (map, pool.map, backwards):
            got = encoding.encode(update, 39, made, CTX0, SEED, each=each)
            np.testing.assert_array_equal(got.words[: -made.weight_limbs], words)
            assert got.clipped_entries == clipped > 0
            decoded = encoding.decode(np.append(steps, 70).astype(np.uint32), 3, made, CTX0, each=each)
            np.testing.assert_array_equal(np.concatenate([*decoded.mean.values()]), mean)


@pytest.mark.parametrize("rotate", [False, True])
def test_steps_beyond_float64_are_clipped_not_refused(rotate):
    """The largest finite entry over the smallest clip is no number of steps, but an entry too large all the same."""
    made = several([(2, CLIP_LEAST), (2, 1.0)], rotate=rotate, weight_max=1)
    encoded = encode({"t0": [1.7e308, -1.7e308], "t1": [0.5, 0.5]}, 1, made)
    assert encoded.clipped_entries == (4 if rotate else 2)
    assert int(encoded.words[:4].max()) <= 2 * made.zero_point
