import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native import limbs
from native.ring import word_dtype
from tests.reference import limbs as twin

PRIMES = (1073692673, 1073668097, 1073651713)
MODULI = np.array(PRIMES, np.uint32)
Q = math.prod(PRIMES)
EVERY_SLOT = [(slot_bits, slots) for slot_bits in range(2, 65) for slots in {1, 79 // slot_bits}]


def layout_of(slot_bits: int, slots: int, message_bits: int = 79) -> limbs.Slots:
    return limbs.Slots.of(PRIMES, slot_bits, slots, message_bits)


def widest(message_bits: int) -> int:
    """The largest B with T·(B + 1) <= Q/2."""
    return Q // (2 * 2**message_bits) - 1


def rows_of(values: list[int]) -> np.ndarray:
    return np.array(twin.residues(values, PRIMES), np.uint32).reshape(3, len(values))


def add_message(rows: np.ndarray, errors: np.ndarray, words: np.ndarray, layout: limbs.Slots) -> None:
    limbs.add_message(rows[None], errors[None], words, layout)


def recover(rows: np.ndarray, out: np.ndarray, layout: limbs.Slots) -> None:
    limbs.recover(rows[None], out, layout)


def recovered(rows: np.ndarray, layout: limbs.Slots, entries: int) -> list[int]:
    out = np.full(entries, 7, word_dtype(layout.slot_bits))
    recover(rows, out, layout)
    return out.tolist()


def below(bound: int) -> st.SearchStrategy[int]:
    return st.sampled_from([0, bound - 1]) | st.integers(0, bound - 1)


def mixed(numbers: np.random.Generator, bounds: np.ndarray, columns: int) -> np.ndarray:
    """Row j below bounds[j]; a third each of zeros, of the largest value, and of anything."""
    shape = (len(bounds), columns)
    kinds = numbers.integers(0, 3, shape)
    largest = bounds.astype(np.uint32)[:, None] - np.uint32(1)
    anything = numbers.integers(0, largest, shape, dtype=np.uint32, endpoint=True)
    return np.where(kinds == 0, np.uint32(0), np.where(kinds == 1, largest, anything))


@settings(deadline=None)
@given(st.lists(st.integers(1, 2**31), max_size=4), st.integers(0, 70), st.integers(0, 2**32))
def test_add_and_subtract_agree_with_plain_integers(primes: list[int], columns: int, seed: int) -> None:
    numbers, bounds = np.random.default_rng(seed), np.array(primes, np.uint32)
    left, right = mixed(numbers, bounds, columns), mixed(numbers, bounds, columns)
    right.flags.writeable = False
    moduli = bounds.astype(np.int64)[:, None]
    total = left.copy()
    limbs.add(total, right, bounds)
    assert np.array_equal(total, (left.astype(np.int64) + right) % moduli)
    limbs.subtract(total[None], right[None], bounds)
    assert np.array_equal(total, left)
    limbs.subtract(total[None], right[None], bounds)
    assert np.array_equal(total, (left.astype(np.int64) - right) % moduli)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[limbs.Slots, list[int], list[int], list[int]]:
    """A layout, entries (also of a last block), errors and what is there before: extremes as often as the rest."""
    slot_bits, slots = draw(st.sampled_from(EVERY_SLOT))
    layout = layout_of(slot_bits, slots, draw(st.integers(slot_bits * slots, 88)))
    words = draw(st.lists(below(2**slot_bits), max_size=60))
    stride = -(-len(words) // slots)
    largest = min(PRIMES) - 1
    extremes = st.sampled_from([-largest, -58, -1, 0, 1, 58, largest]) | st.integers(-largest, largest)
    errors = draw(st.lists(extremes, min_size=stride, max_size=stride))
    before = draw(st.lists(st.sampled_from([0, -1, Q // 2]) | st.integers(0, Q), min_size=stride, max_size=stride))
    return layout, words, errors, before


@settings(deadline=None, max_examples=300)
@given(blocks())
def test_add_message_agrees_with_plain_integers(case: tuple[limbs.Slots, list[int], list[int], list[int]]) -> None:
    layout, words, errors, before = case
    rows = rows_of(before)
    values = np.array(words, word_dtype(layout.slot_bits))
    values.flags.writeable = False
    surplus = np.array([*errors, 5, -5], np.int32)  # errors may be longer than the stride
    add_message(rows, surplus, values, layout)
    parts = zip(before, errors, twin.messages(words, layout.slot_bits, layout.slots, len(before)), strict=True)
    expected = [b + 2**layout.message_bits * e + m for b, e, m in parts]
    assert rows.tolist() == twin.residues(expected, PRIMES)


@settings(deadline=None, max_examples=300)
@given(st.data(), st.sampled_from(EVERY_SLOT), st.integers(0, 60))
def test_recover_agrees_with_plain_integers(data: st.DataObject, shape: tuple[int, int], count: int) -> None:
    """Any residues at all, decodable or not: extremes of each prime and of Q."""
    layout, stride = layout_of(*shape), -(-count // shape[1])
    numbers = st.sampled_from([0, 1, Q // 2, Q // 2 + 1, Q - 1]) | st.integers(0, Q - 1)
    rows = rows_of(data.draw(st.lists(numbers, min_size=stride, max_size=stride)))
    for row, prime in enumerate(PRIMES):
        for column in data.draw(st.sets(st.integers(0, stride - 1), max_size=2)) if stride else ():
            rows[row, column] = data.draw(st.sampled_from([0, prime - 1]))
    rows.flags.writeable = False
    values = twin.centred(rows.tolist(), PRIMES)
    assert recovered(rows, layout, count) == twin.entries(values, *shape, count)


def test_recover_at_every_corner_of_the_mixed_radix() -> None:
    """Residues about 0, q/2 and q of all three primes: there the differences in Garner's method are most negative."""
    corners = [[0, 1, q // 2, q // 2 + 1, q - 1] for q in PRIMES]
    q0, q1, q2 = PRIMES
    values = [
        a + q0 * (b + q1 * ((y - b) * pow(q1, -1, q2) % q2)) - Q // 2  # y: the third digit before b comes off
        for a, b, y in itertools.product((0, q0 - 1), (0, q1 - 2, q1 - 1), (0, 1, q2 - 1))
    ]
    rows = np.hstack([np.array(list(itertools.product(*corners)), np.uint32).T, rows_of(values)])
    layout, expected = layout_of(39, 2), twin.centred(rows.tolist(), PRIMES)
    assert recovered(np.ascontiguousarray(rows), layout, 2 * len(expected)) == twin.entries(
        expected, 39, 2, 2 * len(expected)
    )


@pytest.mark.parametrize(("slot_bits", "slots"), [(8, 9), (16, 4), (32, 2), (64, 1)])
def test_a_full_block_of_anything_agrees_with_plain_integers(slot_bits: int, slots: int) -> None:
    """Whole vectors, with products, errors and what was there before all near the top of their lazy ranges."""
    layout, numbers = layout_of(slot_bits, slots), np.random.default_rng(slot_bits)
    words = numbers.integers(0, 2**slot_bits - 1, slots * 4096, np.uint64, endpoint=True).astype(word_dtype(slot_bits))
    errors = (numbers.integers(PRIMES[2] // 2, PRIMES[2], 4096) * numbers.choice([-1, 1], 4096)).astype(np.int32)
    rows = rows_of([-1] * 4096)
    add_message(rows, errors, words, layout)
    parts = zip(errors.tolist(), twin.messages(words.tolist(), slot_bits, slots, 4096), strict=True)
    assert rows.tolist() == twin.residues([2**79 * e + m - 1 for e, m in parts], PRIMES)


@pytest.mark.parametrize(("slot_bits", "slots"), EVERY_SLOT)
def test_every_length_of_a_last_block_comes_back(slot_bits: int, slots: int) -> None:
    layout, numbers = layout_of(slot_bits, slots), np.random.default_rng(slot_bits)
    for count in [*range(2 * slots + 2), 511 * slots + 1, 513 * slots]:
        words = numbers.integers(0, 2**slot_bits - 1, count, np.uint64, endpoint=True).astype(word_dtype(slot_bits))
        stride = -(-count // slots)
        rows = np.zeros((3, stride), np.uint32)
        add_message(rows, numbers.integers(-58, 59, stride, dtype=np.int32), words, layout)
        assert recovered(rows, layout, count) == words.tolist()


@pytest.mark.parametrize("message_bits", [52, 64, 76, 78, 79, 80])
@pytest.mark.parametrize("slot_bits", [13, 26, 39, 52])
def test_decoding_is_exact_up_to_the_bound_and_wraps_one_step_beyond(message_bits: int, slot_bits: int) -> None:
    slots = message_bits // slot_bits
    layout, t, bound = layout_of(slot_bits, slots, message_bits), 2**message_bits, widest(message_bits)

    def decode(error: int, message: int) -> list[int]:
        return recovered(rows_of([t * error + message]), layout, slots)

    for error in (-bound, -1, 0, 1, bound):
        for message in (0, 1, t // 2, t - 2, t - 1):
            assert decode(error, message) == twin.entries([message], slot_bits, slots, slots)
    for error, message in ((bound + 1, t - 1), (-bound - 2, 0)):
        assert decode(error, message) != twin.entries([message], slot_bits, slots, slots)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_full_block_at_the_bound_comes_back(sign: int) -> None:
    """Through add_message: the largest errors of either sign and the largest message, T - 1 with every slot full."""
    layout, bound = layout_of(26, 3, 78), widest(78)
    words = np.full(3 * 4096, 2**26 - 1, np.uint32)
    rows = np.zeros((3, 4096), np.uint32)
    add_message(rows, np.full(4096, sign * bound, np.int32), words, layout)
    assert twin.centred(rows.tolist(), PRIMES) == [sign * bound * 2**78 + 2**78 - 1] * 4096
    assert recovered(rows, layout, len(words)) == words.tolist()


@pytest.mark.parametrize(("slot_bits", "slots"), [(13, 6), (26, 3), (39, 2), (64, 1)])
def test_slots_of_a_sum_never_borrow_or_carry(slot_bits: int, slots: int) -> None:
    """Neighbours at both extremes, negative errors, and sums that just fit their slots."""
    layout, clients, stride = layout_of(slot_bits, slots), 100, 64
    largest = (2**slot_bits - 1) // clients
    entries = np.zeros((slots, stride), word_dtype(slot_bits))
    entries[::2, ::2] = entries[1::2, 1::2] = largest
    total = np.zeros((3, stride), np.uint32)
    for client in range(clients):
        rows = np.zeros((3, stride), np.uint32)
        add_message(rows, np.full(stride, (client % 3) - 3, np.int32), entries.reshape(-1), layout)
        limbs.add(total, rows, MODULI)
    assert recovered(total, layout, entries.size) == (entries * clients).reshape(-1).tolist()


def test_a_layout_keeps_its_constants_read_only() -> None:
    layout = layout_of(26, 3)
    arrays = [layout.moduli, layout.scales, layout.inverses, layout.half]
    assert not any(array.flags.writeable for array in arrays)
    assert layout == layout_of(26, 3)
    assert layout != layout_of(26, 2)


@pytest.mark.parametrize(
    ("primes", "slot_bits", "slots", "message_bits"),
    [
        (PRIMES[:2], 26, 3, 78),
        ((*PRIMES[:2], 12289), 26, 3, 78),
        ((*PRIMES[:2], 2**30 + 1), 26, 3, 78),
        ((PRIMES[0], PRIMES[1], PRIMES[0]), 26, 3, 78),
        (PRIMES, 0, 3, 78),
        (PRIMES, 65, 1, 78),
        (PRIMES, 26, 0, 78),
        (PRIMES, 26, 3, 77),
        (PRIMES, 26, 3, 89),
    ],
)
def test_layouts_that_cannot_work_are_refused(primes, slot_bits: int, slots: int, message_bits: int) -> None:
    with pytest.raises(ValueError, match=r"limbs|not invertible"):
        limbs.Slots.of(primes, slot_bits, slots, message_bits)


def test_other_shapes_are_refused_not_read_beyond() -> None:
    def zeros(*shape: int, dtype: type = np.uint32) -> np.ndarray:
        return np.zeros(shape, dtype)

    for total, values, primes in (((3, 4), (3, 5), 3), ((3, 4), (2, 4), 3), ((3, 4), (3, 4), 2)):
        with pytest.raises(ValueError, match="shapes"):
            limbs.add(zeros(*total), zeros(*values), zeros(primes))
        with pytest.raises(ValueError, match="shapes"):
            limbs.subtract(zeros(1, *total), zeros(1, *values), zeros(primes))
    layout = layout_of(26, 3)
    for rows, errors, entries in (((3, 4), 4, 13), ((3, 4), 4, 0), ((3, 4), 3, 12), ((2, 4), 4, 12)):
        with pytest.raises(ValueError, match="shapes"):
            add_message(zeros(*rows), zeros(errors, dtype=np.int32), zeros(entries), layout)
    for rows, entries in (((3, 4), 13), ((3, 4), 0), ((2, 4), 12)):
        with pytest.raises(ValueError, match="shapes"):
            recover(zeros(*rows), zeros(entries), layout)


@pytest.mark.parametrize(("slot_bits", "dtype"), [(32, np.uint64), (33, np.uint32)])
def test_words_of_the_other_dtype_are_refused(slot_bits: int, dtype: type) -> None:
    layout, rows = layout_of(slot_bits, 2), np.zeros((3, 2), np.uint32)
    with pytest.raises(ValueError, match=f"slots of {slot_bits} bits"):
        add_message(rows, np.zeros(2, np.int32), np.zeros(4, dtype), layout)
    with pytest.raises(ValueError, match=f"slots of {slot_bits} bits"):
        recover(rows, np.zeros(4, dtype), layout)


@pytest.mark.parametrize(("slot_bits", "slots"), [(26, 3), (39, 2), (64, 1)])
def test_several_blocks_at_once_are_the_blocks_one_by_one(slot_bits: int, slots: int) -> None:
    layout, numbers, stride = layout_of(slot_bits, slots), np.random.default_rng(slot_bits), 700
    words = numbers.integers(0, 2**slot_bits - 1, (3, slots * stride), np.uint64, endpoint=True)
    words = words.astype(word_dtype(slot_bits))
    errors = numbers.integers(-58, 59, (3, stride + 2), dtype=np.int32)
    rows = np.stack([numbers.integers(0, prime, (3, stride), np.uint32) for prime in PRIMES], axis=1)
    together, one_by_one = rows.copy(), rows.copy()
    limbs.add_message(together, errors, words.reshape(-1), layout)
    for block in range(3):
        add_message(one_by_one[block], errors[block], words[block], layout)
    np.testing.assert_array_equal(together, one_by_one)
    out = np.zeros_like(words)
    limbs.recover(together, out.reshape(-1), layout)
    assert out.tolist() == [recovered(block, layout, slots * stride) for block in together]
    for surplus in (-1, 1):
        with pytest.raises(ValueError, match="shapes"):
            limbs.recover(together, np.zeros(words.size + surplus, words.dtype), layout)
        with pytest.raises(ValueError, match="shapes"):
            limbs.add_message(together, errors, np.zeros(words.size + surplus, words.dtype), layout)


@given(st.lists(st.integers(-(2**29), 2**29) | st.sampled_from([-1, 0, 1]), max_size=70))
def test_lift_is_the_remainder(values: list[int]) -> None:
    out = np.full((3, len(values)), 7, np.uint32)
    limbs.lift(np.array(values, np.int32), out, MODULI)
    assert out.tolist() == [[value % prime for value in values] for prime in PRIMES]


def test_lift_refuses_another_shape() -> None:
    for shape in ((2, 5), (3, 4)):
        with pytest.raises(ValueError, match=r"limbs\.lift"):
            limbs.lift(np.zeros(5, np.int32), np.zeros(shape, np.uint32), MODULI)
