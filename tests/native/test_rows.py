import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native import rows
from native.rows import Rows
from tests.reference import rows as twin


@st.composite
def polynomials(draw: st.DrawFn) -> tuple[Rows, np.ndarray]:
    """Primes of any widths, and whole polynomials: a third each of zeros, of the largest residue, and of anything."""
    widths = draw(st.lists(st.integers(1, 31), min_size=1, max_size=3))
    primes = [draw(st.integers(1, 2**width - 1)) for width in widths]
    size, count = 32 * draw(st.integers(1, 5)), draw(st.integers(0, 3))
    numbers = np.random.default_rng(draw(st.integers(0, 2**32)))
    return Rows.of(primes, widths), mixed(numbers, primes * count, size)


def mixed(numbers: np.random.Generator, bounds: list[int], columns: int) -> np.ndarray:
    found = []
    for bound in bounds:
        kinds = numbers.integers(0, 3, columns)
        anything = numbers.integers(0, bound, columns)
        found.append(np.where(kinds == 0, 0, np.where(kinds == 1, bound - 1, anything)))
    return np.array(found, np.uint32).reshape(len(bounds), columns)


def packed(residues: np.ndarray, form: Rows) -> np.ndarray:
    """As a receiver sees it: read-only, and at an odd address."""
    count, size = len(residues) // len(form.primes), residues.shape[1]
    out = np.full(count * form.packed_words(size), 0xDEADBEEF, np.uint32)
    rows.pack(residues, form, out)
    raw = np.frombuffer(b"\0" + out.tobytes(), np.uint8)
    return np.frombuffer(raw[1:].data, np.uint32)


@settings(deadline=None)
@given(polynomials())
def test_packing_is_the_twins_and_comes_back(case: tuple[Rows, np.ndarray]) -> None:
    form, residues = case
    widths = form.widths.tolist() * len(residues)
    data = packed(residues, form)
    assert data.tobytes() == b"".join(twin.pack(row, b) for row, b in zip(residues.tolist(), widths, strict=False))
    out = np.full_like(residues, 7)
    rows.unpack(data, form, out)
    assert np.array_equal(out, residues)
    assert rows.all_below(data, form, residues.shape[1]) is True


@settings(deadline=None)
@given(case=polynomials(), order=st.permutations(range(3)), seed=st.integers(0, 2**32))
def test_sums_are_those_of_plain_integers_in_any_order(
    case: tuple[Rows, np.ndarray], order: list[int], seed: int
) -> None:
    form, first = case
    bounds = form.primes.tolist() * (len(first) // len(form.primes))
    numbers = np.random.default_rng(seed)
    parts = [first, *(mixed(numbers, bounds, first.shape[1]) for _ in range(2))]
    total = np.zeros_like(first)
    for k in order:
        rows.add(total, packed(parts[k], form), form)
    assert np.array_equal(total, np.sum(parts, axis=0, dtype=np.int64) % np.array(bounds, np.int64)[:, None])


@pytest.mark.parametrize("bits", [1, 8, 24, 25, 27, 30, 31])
def test_a_residue_that_is_one_too_large_is_seen_in_every_place(bits: int) -> None:
    """The last row is of another width, so that a row that is read at the wrong place shows."""
    prime = 2**bits - 1 if bits > 1 else 1
    form = Rows.of((prime, 5), (bits, 3))
    residues = np.repeat(form.primes[:, None] - np.uint32(1), 64, axis=1)
    assert rows.all_below(packed(residues, form), form, 64) is True
    for row in range(2):
        for column in range(64):
            bad = residues.copy()
            bad[row, column] = form.primes[row]
            assert rows.all_below(packed(bad, form), form, 64) is False


def test_a_row_of_a_whole_block_comes_back() -> None:
    form = Rows.of((2**25 - 39, 2**30 - 35), (25, 30))
    residues = mixed(np.random.default_rng(1), form.primes.tolist() * 2, 4096)
    total = np.zeros_like(residues)
    rows.add(total, packed(residues, form), form)
    assert np.array_equal(total, residues)


@pytest.mark.parametrize(
    ("primes", "widths"), [((), ()), ((3,), (2, 2)), ((4,), (2,)), ((0,), (2,)), ((2**31 + 11,), (32,)), ((1,), (0,))]
)
def test_rows_that_cannot_be_are_refused(primes: tuple[int, ...], widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rows"):
        Rows.of(primes, widths)


def test_constants_are_read_only() -> None:
    form = Rows.of((3, 5), (2, 3))
    assert not form.primes.flags.writeable
    assert not form.widths.flags.writeable


def test_other_shapes_are_refused_not_read_beyond() -> None:
    form = Rows.of((5, 7, 11), (25, 25, 25))

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.uint32)

    for residues, words in (((3, 63), 150), ((2, 64), 100), ((4, 64), 200), ((3, 64), 149), ((3, 64), 151)):
        with pytest.raises(ValueError, match="shapes"):
            rows.pack(zeros(*residues), form, zeros(words))
        with pytest.raises(ValueError, match="shapes"):
            rows.unpack(zeros(words), form, zeros(*residues))
        with pytest.raises(ValueError, match="shapes"):
            rows.add(zeros(*residues), zeros(words), form)
    for words, size in ((149, 64), (151, 64), (150, 63), (150, 0), (75, 64), (150, -64)):
        with pytest.raises(ValueError, match="polynomials"):
            rows.all_below(zeros(words), form, size)
