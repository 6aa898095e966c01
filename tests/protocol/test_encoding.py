import dataclasses
import math
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aggregator.errors import ParameterError, RoundAborted
from aggregator.protocol import encoding
from aggregator.wire.messages import Tensor
from tests.consortium import drbg
from tests.encoded import BLOCK, CTX0, SEED, backwards, encode, signs, slowly, total_of, transform
from tests.harness import parameters
from tests.reference import keystream as twin_keystream
from tests.reference import quantize as twin


def quantised_sum(total, participants, made):
    """In steps of `scale`, without the offset."""
    return encoding._in_range(total, participants, made).astype(np.int64) - participants * made.zero_point


@settings(deadline=None)
@given(
    values=st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=8),
    value_bits=st.sampled_from([2, 3, 8, 16, 24, 30, 31, 32, 53, 54]),
    weight=st.integers(1, 40),
    seed=st.binary(min_size=32, max_size=32),
)
def test_encode_is_the_twins(values, value_bits, weight, seed):
    made = parameters(4, len(values), value_bits=value_bits, clip=2.5, weight_max=40)
    got = encoding.encode({"x": values}, weight, made, CTX0, seed)
    draws = twin_keystream.draws(seed, CTX0, len(values))
    limbs = [(weight >> (value_bits * i)) % 2**value_bits for i in range(made.weight_limbs)]
    assert [int(word) for word in got.words] == twin.quantize(values, 2.5, value_bits, draws, weight / 40) + limbs


@settings(deadline=None, max_examples=150)
@given(
    data=st.data(),
    n=st.integers(1, 8),
    value_bits=st.integers(2, 54),
    clip=st.floats(1e-6, 1e6),
    rotate=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_the_error_bound_holds(data, n, value_bits, clip, rotate, seed):
    made = parameters(max(n, 2), 5, value_bits=value_bits, clip=clip, weight_max=1000, rotate=rotate)
    weights = data.draw(st.lists(st.integers(1, 1000), min_size=n, max_size=n))
    rng = np.random.default_rng(seed)
    reach = 1 / math.sqrt(8) if rotate else 1.0
    updates = [rng.choice([-1, -0.99, 0.3, 0, 1], 5) * rng.random() * clip * reach * (1000 / w) for w in weights]
    encoded = [encode({"x": u}, w, made, i) for i, (u, w) in enumerate(zip(updates, weights, strict=True))]
    assume(not any(each.clipped_entries for each in encoded))
    decoded = encoding.decode(total_of(encoded, made), n, made, CTX0)
    assert decoded.total_weight == sum(weights)
    for i in range(5):
        exact = sum(Fraction(u[i]) * w for u, w in zip(updates, weights, strict=True)) / sum(weights)
        assert abs(Fraction(decoded.mean["x"][i]) - exact) <= Fraction(decoded.error_bound)


def test_the_error_bound_says_something():
    """It is about n steps of the mean, not a thousand of them."""
    made = parameters(4, 5, weight_max=100)
    encoded = [encode({"x": np.full(5, 0.123456789)}, 100, made, i) for i in range(4)]
    decoded = encoding.decode(total_of(encoded, made), 4, made, CTX0)
    assert made.scale * 0.99 <= decoded.error_bound <= made.scale * 1.01
    rotated = parameters(4, 5, weight_max=100, rotate=True)
    encoded = [encode({"x": np.full(5, 0.1)}, 100, rotated, i) for i in range(4)]
    assert encoding.decode(total_of(encoded, rotated), 4, rotated, CTX0).error_bound < rotated.scale * 3


@settings(deadline=None, max_examples=60)
@given(weights=st.lists(st.integers(1, 2**53), min_size=1, max_size=9), value_bits=st.integers(2, 54))
def test_weights_add_up_exactly(weights, value_bits):
    made = parameters(9, 1, value_bits=value_bits, weight_max=2**53)
    encoded = [encode({"x": [0.0]}, weight, made) for weight in weights]
    assert encoding.decode(total_of(encoded, made), len(weights), made, CTX0).total_weight == sum(weights)


SIZES = [1, 4097, encoding.PIECE_ENTRIES - 1, encoding.PIECE_ENTRIES + 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5]


@pytest.mark.parametrize("entries", SIZES)
@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_long_updates_are_encoded_as_short_ones(entries, rotate, dtype):
    """Whatever the number of blocks, and whoever encodes which: every entry has its own draw and its own sign."""
    made = parameters(4, entries, rotate=rotate, weight_max=40, clip=2.0)
    values = np.random.default_rng(entries).normal(size=entries).astype(dtype) * dtype(3)
    words, clipped = slowly(values, 39, made, SEED)
    assert entries < 100 or clipped > 0
    with ThreadPoolExecutor(3) as pool:
        for each in (map, pool.map, backwards):
            got = encoding.encode({"x": values}, 39, made, CTX0, SEED, each=each)
            np.testing.assert_array_equal(got.words[: -made.weight_limbs], words)
            assert got.words[-made.weight_limbs :].tolist() == [39]
            assert got.clipped_entries == clipped


@pytest.mark.parametrize("entries", SIZES)
@pytest.mark.parametrize("rotate", [False, True])
def test_long_sums_are_decoded_as_short_ones(entries, rotate):
    made = parameters(4, entries, rotate=rotate, weight_max=40)
    rng = np.random.default_rng(entries)
    steps = rng.integers(-3 * made.zero_point, 3 * made.zero_point, made.coded_entries, endpoint=True)
    total = np.append(steps + 3 * made.zero_point, 70).astype(np.uint32)
    np.testing.assert_array_equal(quantised_sum(total, 3, made), steps)
    expected = transform(steps.astype(float), made.rotation_block) * signs(made) if rotate else steps
    expected = expected * (made.scale * 40 / 70)
    with ThreadPoolExecutor(3) as pool:
        for each in (map, pool.map, backwards):
            decoded = encoding.decode(total, 3, made, CTX0, each=each)
            np.testing.assert_array_equal(decoded.mean["x"], expected[:entries])


@pytest.mark.parametrize("rotate", [False, True])
def test_memory_beside_the_words_does_not_grow_with_them(rotate):
    """At two million entries one vector of float64 would be 16 MB; there are at most a few pieces of 512 KiB."""
    made = parameters(4, 2_000_000, rotate=rotate)
    update = {"x": np.full(2_000_000, 0.1, np.float32)}
    encoded, encode_bytes = peak_bytes(lambda: encode(update, 7, made))
    assert encode_bytes - encoded.words.nbytes < 2 << 20
    decoded, decode_bytes = peak_bytes(lambda: encoding.decode(encoded.words, 1, made, CTX0))
    assert decode_bytes - decoded.mean["x"].base.nbytes < 2 << 20


def peak_bytes(action):
    tracemalloc.start()
    try:
        return action(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_numpy_integers_are_weights_and_booleans_and_floats_are_not():
    made = parameters(4)
    assert encode({"x": np.zeros(4)}, np.int64(7), made).words[-2:].tolist() == [7, 0]
    for wrong in (True, 1.0, "1", None, np.float64(2)):
        with pytest.raises(ParameterError, match="must be an integer number of samples"):
            encode({"x": np.zeros(4)}, wrong, made)
    for wrong in (0, -1, 1_000_001):
        with pytest.raises(ParameterError, match="the weight is not among the 1 to 1000000 that this task allows"):
            encode({"x": np.zeros(4)}, wrong, made)


@pytest.mark.parametrize("value", [0.3, -0.7, 0.9, -1e-4])
def test_stochastic_rounding_is_unbiased(value):
    """The mean of 200,000 roundings at two bits' precision lies within 5 standard errors of the value."""
    made = parameters(2, 200_000, value_bits=3, weight_max=1)
    words = encode({"x": np.full(200_000, value)}, 1, made).words[:-1].astype(np.int64)
    steps = value / made.scale
    fraction = steps - math.floor(steps)
    assert set(np.unique(words - made.zero_point)) <= {math.floor(steps), math.floor(steps) + 1}
    error = float((words - made.zero_point).mean()) - steps
    assert abs(error) < 5 * math.sqrt(fraction * (1 - fraction) / 200_000)


def test_rounding_is_fixed_by_its_seed_and_by_nothing_else():
    made = parameters(2, 1000, value_bits=4)
    values = {"x": np.linspace(-1, 1, 1000)}
    first, again, other = (encode(values, 10**6, made, label) for label in (0, 0, 1))
    np.testing.assert_array_equal(first.words, again.words)
    assert (first.words != other.words).sum() > 300
    elsewhere = encoding.encode(values, 10**6, made, bytes(32), drbg("rounding", 0)(32))
    assert (first.words != elsewhere.words).sum() > 300, "one seed in two rounds gives one rounding"


def test_clipping_is_counted_and_bounded():
    made = parameters(2, 6, weight_max=1)
    encoded = encode({"x": [1.0, -1.0, 1.0001, -5.0, 1e300, 0.0]}, 1, made)
    assert encoded.clipped_entries == 3
    decoded = encoding.decode(encoded.words, 1, made, CTX0)
    np.testing.assert_allclose(decoded.mean["x"], [1, -1, 1, -1, 1, 0], atol=1e-12)


@pytest.mark.parametrize("value_bits", [2, 16, 33, 54])
def test_integers_are_exact_where_a_step_is_one(value_bits):
    top = 2 ** (value_bits - 1) - 1
    made = parameters(4, 6, value_bits=value_bits, clip=float(top), weight_max=1)
    values = [top, -top, 0, 1, -1, top // 3]
    encoded = [encode({"x": np.array(values, dtype=float)}, 1, made, i) for i in range(3)]
    total = total_of(encoded, made)
    assert quantised_sum(total, 3, made).tolist() == [3 * value for value in values]
    if value_bits < 54:
        assert encoding.decode(total, 3, made, CTX0).mean["x"].tolist() == values


@settings(deadline=None, max_examples=40)
@given(entries=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_rotation_comes_back(entries, seed):
    made = parameters(2, entries, rotate=True, value_bits=40, weight_max=1, clip=8.0)
    values = np.random.default_rng(seed).uniform(-1, 1, entries)
    encoded = encode({"x": values}, 1, made)
    decoded = encoding.decode(encoded.words, 1, made, CTX0)
    np.testing.assert_allclose(decoded.mean["x"], values, atol=decoded.error_bound)


def test_rotation_spreads_an_outlier():
    """One entry of 30 in 4,096 zeros is clipped to 1 as it is, and survives when it is rotated."""
    values = np.zeros(4096)
    values[17] = 30.0
    plain, rotated = (parameters(2, 4096, rotate=rotate, weight_max=1) for rotate in (False, True))
    encoded = encode({"x": values}, 1, plain)
    assert encoded.clipped_entries == 1
    assert encoding.decode(encoded.words, 1, plain, CTX0).mean["x"][17] == pytest.approx(1.0)
    encoded = encode({"x": values}, 1, rotated)
    assert encoded.clipped_entries == 0
    decoded = encoding.decode(encoded.words, 1, rotated, CTX0)
    np.testing.assert_allclose(decoded.mean["x"], values, atol=decoded.error_bound)


def test_rotation_comes_from_ctx0():
    made = parameters(2, 64, rotate=True, weight_max=1, clip=8.0)
    values = np.ones(64)
    encoded = encode({"x": values}, 1, made)
    assert abs(encoding.decode(encoded.words, 1, made, CTX0).mean["x"] - values).max() < 0.01
    assert abs(encoding.decode(encoded.words, 1, made, bytes(32)).mean["x"] - values).max() > 1


TENSORS = (Tensor("w", (2, 3)), Tensor("b", ()))
UPDATE = {"w": np.zeros((2, 3)), "b": 0.0}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clips", [(0.0, 0.0), (2.0, 1e-6)])
def test_not_a_number_is_named_by_tensor_and_index(bad, clips):
    made = parameters(4, tensors=(Tensor("w", (2, 3), clips[0]), Tensor("b", (), clips[1])))
    assert encode(UPDATE, 1, made)
    broken = np.zeros((2, 3))
    broken[1, 2] = bad
    with pytest.raises(ParameterError, match=r"tensor 'w' is not finite at index \(1, 2\)"):
        encode({"w": broken, "b": 0.0}, 1, made)
    with pytest.raises(ParameterError, match=r"tensor 'b' is not finite at index \(\)"):
        encode({"w": np.zeros((2, 3)), "b": bad}, 1, made)


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("clip", [0.0, 5.0])
def test_the_first_of_several_is_named_whatever_comes_first(rotate, clip):
    tensors = (Tensor("a", (7,), clip), Tensor("b", (3, BLOCK)), Tensor("c", (BLOCK,), clip))
    made = parameters(4, tensors=tensors, rotate=rotate)
    broken = {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in tensors}
    broken["c"][5] = broken["b"][2, 9] = broken["b"][1, 8] = broken["b"][1, 7] = math.nan
    with ThreadPoolExecutor(3) as pool:
        for each in (map, pool.map, backwards):
            with pytest.raises(ParameterError, match=r"tensor 'b' is not finite at index \(1, 7\)"):
                encoding.encode(broken, 1, made, CTX0, SEED, each=each)


def test_a_rotation_beyond_float64_is_clipped_not_refused():
    """Finite entries whose rotated sums are not: they count as clipped, like any value that is too large."""
    made = parameters(4, 4096, rotate=True, weight_max=1)
    values = np.full(4096, 1.7e308)
    assert encode({"x": values}, 1, made).clipped_entries == 4096


@pytest.mark.parametrize(
    ("update", "named"),
    [
        ({"w": np.zeros((2, 3))}, r"missing \['b'\], surplus \[\]"),
        ({**UPDATE, "c": 0.0}, r"missing \[\], surplus \['c'\]"),
        ({"w": np.zeros((3, 2)), "b": 0.0}, r"tensor 'w' has shape \(3, 2\), the task expects \(2, 3\)"),
        ({"w": np.zeros(6), "b": 0.0}, r"tensor 'w' has shape \(6,\)"),
        ({"w": np.zeros((2, 3)), "b": [0.0]}, r"tensor 'b' has shape \(1,\)"),
        ({"w": np.zeros((2, 3), complex), "b": 0.0}, "tensor 'w' holds complex128, expected real numbers"),
        ({"w": np.full((2, 3), "1"), "b": 0.0}, "tensor 'w' holds <U1"),
        ({"w": np.full((2, 3), None), "b": 0.0}, "tensor 'w' holds object"),
    ],
)
def test_updates_that_do_not_fit_are_refused_by_name(update, named):
    with pytest.raises(ParameterError, match=named):
        encode(update, 1, parameters(4, tensors=TENSORS))


def test_tensors_come_back_in_their_own_shapes():
    made = parameters(4, tensors=TENSORS, value_bits=40, weight_max=1, clip=8.0)
    update = {"b": np.float32(7.0), "w": np.arange(6, dtype=np.int16).reshape(2, 3).T.copy().T}
    decoded = encoding.decode(encode(update, 1, made).words, 1, made, CTX0)
    assert list(decoded.mean) == ["w", "b"]
    np.testing.assert_allclose(decoded.mean["w"], [[0, 1, 2], [3, 4, 5]], atol=decoded.error_bound)
    assert decoded.mean["b"].shape == ()
    assert float(decoded.mean["b"]) == pytest.approx(7.0)


def test_a_wrongly_unmasked_sum_is_refused():
    made = parameters(64, 50, weight_max=1)
    encoded = [encode({"x": np.zeros(50)}, 1, made, i) for i in range(3)]
    total = total_of(encoded, made)
    assert encoding.decode(total, 3, made, CTX0)
    noise = np.random.default_rng(5).integers(0, 2**made.ring_bits, total.size).astype(total.dtype)
    for wrong in (noise, total + noise, np.zeros_like(total), total * 2):
        with pytest.raises(RoundAborted, match="not unmasked rightly"):
            encoding.decode(wrong & (2**made.ring_bits - 1), 3, made, CTX0)
    with pytest.raises(RoundAborted, match="out of range"):
        encoding.decode(total, 1, made, CTX0)  # another U than the sum's
    with pytest.raises(RoundAborted, match="weights of 4 clients sum to 3"):
        encoding.decode(total, 4, made, CTX0)


@pytest.mark.parametrize(("value_bits", "clients_max", "participants"), [(16, 5, 5), (54, 1024, 1024), (54, 1024, 3)])
def test_the_range_of_a_sum_is_exact(value_bits, clients_max, participants):
    """At the widest ring 2^63 steps have no absolute value in int64: the ends are compared one by one."""
    made = parameters(clients_max, 1, value_bits=value_bits)
    most = 2 * participants * made.zero_point
    for word in (0, most):
        total = np.array([word, participants, *[0] * (made.weight_limbs - 1)]).astype(np.uint64)
        assert abs(quantised_sum(total, participants, made)[0]) == participants * made.zero_point
    # Beyond the ends: one too many, the ring's largest word, and the word whose steps are -2^63.
    lowest = (participants * made.zero_point + 2**63) % 2**64
    for word in {most + 1, 2**made.ring_bits - 1, lowest}:
        total = np.array([word, participants, *[0] * (made.weight_limbs - 1)], dtype=np.uint64)
        with pytest.raises(RoundAborted, match="out of range"):
            quantised_sum(total, participants, made)


def test_reprs_show_no_value():
    encoded = encode({"x": [0.125, 0, 0, 0]}, 9, parameters(4))
    assert repr(encoded) == "Encoded(entries=6, clipped_entries=0)"
    assert {f.name for f in dataclasses.fields(encoded)} == {"words", "clipped_entries"}


def test_what_is_no_array_is_named():
    spec = parameters(5)
    for update, match in (
        ({"x": [[1.0], [2.0, 3.0]]}, "not a regular array"),
        ({"x": [1.0], 3: [2.0]}, "not all text"),
    ):
        with pytest.raises(ParameterError, match=match):
            encode(update, 1, spec)


@pytest.mark.parametrize("value_bits", [16, 30, 54])
def test_what_overflows_in_the_rotation_stays_in_the_ring(value_bits):
    """Finite, but infinity minus infinity inside the transform: NaN has no place beyond its word, or its slot."""
    made = parameters(4, 8, value_bits=value_bits, rotate=True, clip=1.0)
    encoded = encode({"x": np.full(8, 1.7e308) * [1, -1, 1, 1, -1, 1, -1, -1]}, 1_000_000, made)
    assert encoded.clipped_entries == 8
    assert int(encoded.words[:8].max()) <= 2 * made.zero_point
