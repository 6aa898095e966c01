import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import rows
from native.rows import Rows
from tests.reference import packing

PRIMES, WIDTHS = (16_736_257, 8_273_921, 1_032_193, 2**31 - 1), (24, 23, 20, 31)
FORM = Rows.of(PRIMES, WIDTHS, 64)
BOUNDS = np.array(PRIMES, np.uint32)


def residues(polynomials: int, seed: int) -> np.ndarray:
    """A third each of zeros, of the largest, of anything."""
    numbers, largest = np.random.default_rng(seed), np.tile(BOUNDS - np.uint32(1), polynomials)[:, None]
    anything = numbers.integers(0, largest, (len(largest), 64), np.uint32, endpoint=True)
    kinds = numbers.integers(0, 3, anything.shape)
    return np.where(kinds == 0, np.uint32(0), np.where(kinds == 1, largest, anything))


def packed(values: np.ndarray) -> bytes:
    return b"".join(packing.pack(row.tolist(), WIDTHS[j % len(WIDTHS)]) for j, row in enumerate(values))


def octets(raw: bytes, offset: int = 0) -> np.ndarray:
    """At any address, read-only, with foreign bytes on both sides."""
    return np.frombuffer(b"\xff" * offset + raw + b"\xff" * 16, np.uint8)[offset : offset + len(raw)]


@given(st.integers(0, 4), st.integers(0, 9), st.integers(0, 2**32))
def test_all_agree_with_plain_integers(polynomials: int, offset: int, seed: int) -> None:
    values, others = residues(polynomials, seed), residues(polynomials, seed + 1)
    assert rows.pack(values, FORM).tobytes() == packed(values)
    data = octets(packed(values), offset)
    assert rows.unpack(data, FORM).tolist() == values.tolist()
    assert rows.all_below(data, FORM) is True
    total, moduli = others.copy(), np.tile(BOUNDS, polynomials)[:, None].astype(np.int64)
    rows.add(total, data, FORM)
    assert total.tolist() == ((values.astype(np.int64) + others) % moduli).tolist()


def test_a_residue_that_is_one_too_large_is_seen_wherever_it_is() -> None:
    values = residues(2, 5)
    for row, column in itertools.product(range(8), (0, 31, 63)):
        bad = values.copy()
        for wrong in (PRIMES[row % 4], 2 ** WIDTHS[row % 4] - 1):
            bad[row, column] = wrong
            assert rows.all_below(octets(packed(bad)), FORM) is False
        bad[row, column] = PRIMES[row % 4] - 1
        assert rows.all_below(octets(packed(bad)), FORM) is True


def test_shapes_that_do_not_fit_are_refused() -> None:
    values = residues(1, 1)
    data = octets(packed(values))
    for short in (data[:-1], data[:-8]):
        for read in (rows.unpack, rows.all_below):
            with pytest.raises(ValueError, match="no whole polynomials"):
                read(short, FORM)
    for bad in (values[:3], values[:, :32], values.reshape(-1)):
        with pytest.raises(ValueError, match=r"rows\.pack"):
            rows.pack(bad, FORM)
    for total in (residues(2, 1), values[:3]):
        with pytest.raises(ValueError, match=r"rows\.add"):
            rows.add(total, data, FORM)


@pytest.mark.parametrize(
    ("primes", "widths", "size"),
    [
        ((3,), (2,), 32),
        ((3,), (2,), 96),
        ((), (), 64),
        ((3, 5), (3,), 64),
        ((3,), (1,), 64),
        ((2**31 + 11,), (32,), 64),
    ],
)
def test_rows_that_make_no_sense_are_refused(primes, widths, size) -> None:
    with pytest.raises(ValueError, match="rows: "):
        Rows.of(primes, widths, size)
