import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.errors import ParameterError
from aggregator.protocol import pairwise
from native.ring import word_dtype
from tests.consortium import drbg
from tests.reference import secagg

CTX1 = bytes(range(32))
SEED = drbg("self")(32)


def vector(words, ring_bits):
    return np.array(words, dtype=word_dtype(ring_bits))


@settings(deadline=None, max_examples=60)
@given(data=st.data(), ring_bits=st.integers(3, 64), me=st.integers(0, 20), others=st.sets(st.integers(0, 20)))
def test_mask_input_is_the_twins(data, ring_bits, me, others):
    words = data.draw(st.lists(st.integers(0, 2**ring_bits - 1), min_size=1, max_size=9))
    seeds = {other: drbg("pair", other)(32) for other in others - {me}}
    y = pairwise.mask_input(vector(words, ring_bits), SEED, seeds, me, ctx1=CTX1, ring_bits=ring_bits)
    assert [int(word) for word in y] == secagg.masked_vector(words, me, SEED, seeds, CTX1, ring_bits)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), ring_bits=st.integers(3, 64), n=st.integers(2, 6))
def test_unmask_gives_the_survivors_sum_back(data, ring_bits, n):
    alive = sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1)))
    rows = data.draw(
        st.lists(st.lists(st.integers(0, 2**ring_bits - 1), min_size=3, max_size=3), min_size=n, max_size=n)
    )
    selves = {u: drbg("self", u)(32) for u in range(n)}
    total = vector([0, 0, 0], ring_bits)
    for u in alive:
        seeds = {h: drbg("pair", min(u, h), max(u, h))(32) for h in range(n) if h != u}
        total += pairwise.mask_input(vector(rows[u], ring_bits), selves[u], seeds, u, ctx1=CTX1, ring_bits=ring_bits)
    dangling = {(u, h): drbg("pair", min(u, h), max(u, h))(32) for u in alive for h in range(n) if h not in alive}
    seeds = {u: selves[u] for u in alive}
    result = pairwise.unmask(total, seeds, dangling, ctx1=CTX1, ring_bits=ring_bits)
    assert [int(word) for word in result] == [sum(rows[u][i] for u in alive) % 2**ring_bits for i in range(3)]


def test_neither_argument_is_changed():
    x = vector([1, 2, 3], 20)
    y = pairwise.mask_input(x, SEED, {1: SEED}, 0, ctx1=CTX1, ring_bits=20)
    before = y.copy()
    pairwise.unmask(y, {0: SEED}, {(0, 1): SEED}, ctx1=CTX1, ring_bits=20)
    np.testing.assert_array_equal(x, [1, 2, 3])
    np.testing.assert_array_equal(y, before)
    assert not np.shares_memory(x, y)


def test_bad_seeds_and_own_neighbours_are_refused():
    x = vector([1], 20)
    with pytest.raises(ParameterError, match="client 3 is its own neighbour"):
        pairwise.mask_input(x, SEED, {3: SEED}, 3, ctx1=CTX1, ring_bits=20)
    for size in (0, 4, 16, 31, 33):
        with pytest.raises(ParameterError, match=f"{size} bytes"):
            pairwise.mask_input(x, bytes(size), {}, 3, ctx1=CTX1, ring_bits=20)
        with pytest.raises(ParameterError, match=f"{size} bytes"):
            pairwise.mask_input(x, SEED, {1: bytes(size)}, 3, ctx1=CTX1, ring_bits=20)
    with pytest.raises(ParameterError, match="31 bytes"):
        pairwise.mask_input(x, SEED, {}, 3, ctx1=CTX1[:31], ring_bits=20)


CHI_255_LOW, CHI_255_HIGH = 160.0, 370.0  # chi-square of 255 degrees: mean 255, std 22.6; the seeds are fixed


def chi_square(eight_bits):
    counts = np.bincount(eight_bits, minlength=256)
    expected = len(eight_bits) / 256
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("ring_bits", [20, 32, 33, 64])
@pytest.mark.parametrize("neighbours", [0, 1, 2])
@pytest.mark.parametrize("value", ["zero", "ones", "step"])
def test_masked_vectors_are_uniform_over_the_whole_ring(ring_bits, neighbours, value):
    """Whatever the input, every byte-wide window of the words is uniform, and every bit is set half of the time."""
    entries = 1 << 15
    inputs = {"zero": [0] * entries, "ones": [2**ring_bits - 1] * entries, "step": range(entries)}
    seeds = {h: drbg("pair", h, ring_bits)(32) for h in range(neighbours)}
    y = pairwise.mask_input(vector(inputs[value], ring_bits), SEED, seeds, 1_000, ctx1=CTX1, ring_bits=ring_bits)
    words = y.astype(np.uint64)
    assert int(words.max()) < 2**ring_bits
    for low in {0, ring_bits // 3, ring_bits - 8}:
        assert CHI_255_LOW < chi_square((words >> np.uint64(low)).astype(np.uint8)) < CHI_255_HIGH
    for bit in range(ring_bits):
        ones = int(((words >> np.uint64(bit)) & np.uint64(1)).sum())
        assert abs(ones - entries / 2) < 5 * (entries / 4) ** 0.5, f"bit {bit}"
    following = (words[1:] - words[:-1]).astype(np.uint8)
    assert CHI_255_LOW < chi_square(following) < CHI_255_HIGH, "one word tells of the next"


def test_the_uniformity_test_sees_a_plain_vector_and_a_float_mask():
    rng = np.random.default_rng(1)
    plain = rng.normal(0, 2**14, 1 << 15).astype(np.int64) + 2**18
    assert chi_square((plain >> 12).astype(np.uint8)) > CHI_255_HIGH
    floats = (rng.random(1 << 15) * 2**64 * 0.9).astype(np.uint64)
    assert chi_square((floats >> np.uint64(56)).astype(np.uint8)) > CHI_255_HIGH
    assert chi_square(floats.astype(np.uint8)) > CHI_255_HIGH


def test_maskings_keep_their_seeds_to_themselves():
    secret = drbg("secret")(32)
    masking, unmasking = pairwise.Masking(secret, {1: secret}, 0, CTX1), pairwise.Unmasking({0: secret}, {}, CTX1)
    for said in (repr(masking), repr(unmasking)):
        assert repr(secret)[2:-1] not in said
    x = vector([1, 2, 3], 20)
    y = pairwise.mask_input(x, secret, {1: secret}, 0, ctx1=CTX1, ring_bits=20)
    np.testing.assert_array_equal(masking(x, ring_bits=20), y)
    z = pairwise.unmask(y, {0: secret}, {}, ctx1=CTX1, ring_bits=20)
    np.testing.assert_array_equal(unmasking(y, ring_bits=20), z)
