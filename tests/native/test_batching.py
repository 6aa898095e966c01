import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.crypto.seal_parameters import smallest_batching_prime, smallest_root
from native import batching
from native.batching import Slots
from tests.reference import bfv as twin

PRIMES = (16_736_257, 8_273_921, 1_032_193)
Q = math.prod(PRIMES)
SIZES = [4, 8, 16, 64, 128]
PLAINS = [2**20, 2**26, 2**40, 2**52, 2**59]


def slots_for(size: int, least: int, digits: tuple[int, int] = (1, 20)) -> Slots:
    plain = smallest_batching_prime(size, least)
    return Slots.of(plain, smallest_root(size, plain), PRIMES, size, digits)


def encoded(words: np.ndarray, slots: Slots) -> list[int]:
    out = np.empty(len(slots.places), np.uint64)
    batching.encode(words, out, slots)
    return out.tolist()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("least", PLAINS)
def test_encode_is_the_polynomial_with_these_values_times_q(size: int, least: int) -> None:
    slots = slots_for(size, least)
    bound = min(slots.modulus, 2**20)
    words = np.random.default_rng(size).integers(0, bound, size, np.uint64)
    words[:2] = bound - 1
    want = [Q * a % slots.modulus for a in twin.message(words.tolist(), slots.modulus)]
    assert encoded(words, slots) == want
    if bound <= 2**32:
        assert encoded(words.astype(np.uint32), slots) == want


def test_the_largest_slots_of_the_largest_modulus() -> None:
    slots = slots_for(16, 2**60 - 2**13, (1, 60))
    words = np.full(16, slots.modulus - 1, np.uint64)
    words[::3] = 0
    assert encoded(words, slots) == [Q * a % slots.modulus for a in twin.message(words.tolist(), slots.modulus)]


@given(st.integers(1, 3), st.integers(1, 20), st.data())
def test_entries_lie_digit_by_digit(digits: int, bits: int, data: st.DataObject) -> None:
    slots = slots_for(8, 2**60 - 2**14, (digits, bits))
    words = np.array(data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=8 * digits)), np.uint32)
    want = twin.message(twin.slots_of(words.tolist(), 8, bits), slots.modulus)
    assert encoded(words, slots) == [Q * a % slots.modulus for a in want]
    out = np.full(len(words), 7, np.uint32)
    values = np.array(twin.slots_of(words.tolist(), 8, bits), np.uint64)
    assert batching.decode(values, out, (digits, bits), 2**bits - 1) is True
    assert out.tolist() == words.tolist()


@settings(deadline=None)
@given(st.sampled_from(PLAINS), st.data())
def test_add_message_adds_the_rounded_quotient(least: int, data: st.DataObject) -> None:
    slots = slots_for(4, least)
    t, largest = slots.modulus, min(PRIMES) - 1
    numbers = st.sampled_from([0, 1, t // 2, t // 2 + 1, t - 1]) | st.integers(0, t - 1)
    m = data.draw(st.lists(numbers, min_size=4, max_size=4))
    errors = data.draw(st.lists(st.sampled_from([-largest, -1, 0, 1, largest]), min_size=4, max_size=4))
    before = data.draw(st.lists(st.sampled_from([0, 1, Q // 2, Q - 1]), min_size=4, max_size=4))
    residues = np.array([[a % prime for a in before] for prime in PRIMES], np.uint32)
    batching.add_message(residues, np.array(errors, np.int32), np.array([Q * a % t for a in m], np.uint64), slots)
    want = [a + e + y for a, e, y in zip(before, errors, twin.scaled(m, Q, t), strict=True)]
    assert residues.tolist() == [[a % prime for a in want] for prime in PRIMES]


@pytest.mark.parametrize(
    ("modulus", "root", "primes", "size", "digits", "says"),
    [
        (97, 33, PRIMES, 3, (1, 6), "no blocks of 3 slots"),
        (97, 33, PRIMES, 4, (0, 6), "with 0 digits"),
        (97, 33, PRIMES, 4, (3, 21), "3 digits of 21 bits"),
        (97, 2, PRIMES, 4, (1, 6), "2 is no root of order 8 modulo 97"),
        (2**60 + 33, 3, PRIMES, 4, (1, 6), "no root"),
        (97, 33, (), 4, (1, 6), "primes lie below"),
        (97, 33, (97,), 4, (1, 6), "do not divide the modulus"),
        (97, 33, (2**30 + 3,), 4, (1, 6), "primes lie below"),
    ],
)
def test_tables_that_make_no_sense_are_refused(modulus, root, primes, size, digits, says) -> None:
    Slots.of(97, 33, PRIMES, 4, (1, 6))
    with pytest.raises(ValueError, match=says):
        Slots.of(modulus, root, primes, size, digits)


def test_shapes_that_do_not_fit_are_refused() -> None:
    slots = slots_for(8, 2**40, (2, 20))
    u, errors, residues = np.zeros(8, np.uint64), np.zeros(8, np.int32), np.zeros((3, 8), np.uint32)
    for words, out in ((np.zeros(40, np.uint32), u), (np.zeros(8, np.uint32), u[:4])):
        with pytest.raises(ValueError, match=r"batching\.encode"):
            batching.encode(words, out, slots)
    for bad in ((residues[:2], errors, u), (residues, errors[:4], u), (residues, errors, u[:4])):
        with pytest.raises(ValueError, match=r"batching\.add_message"):
            batching.add_message(*bad, slots)
    for digits in ((3, 20), (0, 20), (2, 0), (4, 16), (1, 61)):
        with pytest.raises(ValueError, match=r"batching\.decode: 8 slots with \d digits of \d+ bits"):
            batching.decode(u, np.zeros(25, np.uint32), digits, 1)


def test_what_no_honest_sum_holds_is_seen() -> None:
    """Two digits of 20 bits in 8 slots, 11 entries of at most 1,000."""
    honest = np.full(8, 1_000, np.uint64)
    honest[:3] += np.uint64(1_000 << 20)
    for dtype in (np.uint32, np.uint64):
        out = np.zeros(11, dtype)
        assert batching.decode(honest, out, (2, 20), 1_000) is True
        assert out.tolist() == [1_000] * 11
        for place, wrong in (
            (0, 1_001),
            (7, 1_001),
            (2, 1_001 << 20),
            (3, 1 << 20),
            (7, 1 << 39),
            (0, 1 << 40),
            (5, 1 << 59),
        ):
            bad = honest.copy()
            bad[place] = wrong
            assert batching.decode(bad, out, (2, 20), 1_000) is False
