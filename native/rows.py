"""Rows of residues as they travel: each packed at the width of its prime, without gaps, 32 residues to a lane.

A row of n = 32·lanes residues below a prime of b bits takes b·lanes words of 32 bits. Lane l holds the residues l,
l + lanes, l + 2·lanes …, one after the other, as a little-endian stream of 32·b bits, least significant bit first;
words 0 of all lanes come first, then words 1 … So all lanes shift by the same amount at the same time, and LLVM
vectorises over them: 0.16 ns per residue to take apart in cache, where the stream of `native.pack` takes 0.47.

Polynomials follow one another, a row per prime: row j is modulo primes[j mod k], k being their number. Checks and sums
take one row apart at a time, which stays in the first-level cache.

Source: the layout of Afroozeh and Boncz 2023 (FastLanes), in its simplest form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from native._jit import inlined, kernel
from native.shoup import below

Residues = NDArray[np.uint32]

LANE = 32
"""Residues of a lane; a row has whole lanes."""

WIDTH_MAX = 31


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The primes of a polynomial's rows, and the bits of each; made by `Rows.of`. Arrays are read-only."""

    primes: Residues
    widths: Residues

    @classmethod
    def of(cls, primes: Sequence[int], widths: Sequence[int]) -> "Rows":
        """Rows modulo these primes.

        Raises:
            ValueError: no primes, not one width per prime, a width above 31, or a prime that does not fit its width.
        """
        if not primes or len(primes) != len(widths):
            raise ValueError(f"rows: {len(primes)} primes, {len(widths)} widths")
        if not all(0 < prime < 2**width and width <= WIDTH_MAX for prime, width in zip(primes, widths, strict=True)):
            raise ValueError("rows: a prime does not fit its width")
        arrays = np.array(primes, np.uint32), np.array(widths, np.uint32)
        for array in arrays:
            array.flags.writeable = False
        return cls(*arrays)

    def packed_words(self, size: int) -> int:
        """Words of 32 bits that one polynomial of `size` coefficients takes, a row per prime."""
        return size // LANE * int(self.widths.sum())


def pack(residues: Residues, rows: Rows, out: Residues) -> None:
    """Pack whole polynomials; run by the client.

    Args:
        residues: [polynomials · primes, n], each below its row's prime; n is a multiple of 32.
        rows: the primes.
        out: the words to fill.

    Raises:
        ValueError: the shapes do not fit.
    """
    _pack(residues, rows.widths, out)


def unpack(packed: Residues, rows: Rows, out: Residues) -> None:
    """Take whole polynomials apart; the other way round. Whether residues are below their primes is not looked at.

    Raises:
        ValueError: as `pack`.
    """
    _unpack(packed, rows.widths, out)


def all_below(packed: Residues, rows: Rows, size: int) -> bool:
    """Whether every residue of whole polynomials of `size` coefficients is below its prime; run on whatever arrives.

    Raises:
        ValueError: these words are not whole polynomials.
    """
    return _all_below(packed, rows.widths, rows.primes, size)


def add(total: Residues, packed: Residues, rows: Rows) -> None:
    """Compute total = (total + packed) mod primes in place; all residues below their row's prime.

    Args:
        total: [polynomials · primes, n].
        packed: as many polynomials.
        rows: their primes.

    Raises:
        ValueError: the shapes do not fit.
    """
    _add(total, packed, rows.widths, rows.primes)


_WORDS = "Array(uint32, 1, 'C', readonly=True, aligned=False)"
"""Packed residues where they arrived: behind the head of a message, at any address."""

_ROW, _RESIDUES = "Array(uint32, 1, 'C', readonly=True)", "Array(uint32, 2, 'C', readonly=True)"


@inlined
def pack_row(row: Any, width: Any, out: Any) -> None:
    """One row, for kernels that pack; `out` has room for it."""
    lanes = row.shape[0] // 32
    for k in range(32):
        at = k * np.int64(width)
        word, shift, first = at // 32 * lanes, np.uint32(at % 32), k * lanes
        if shift == np.uint32(0):
            for i in range(lanes):
                out[word + i] = row[first + i]
        else:
            for i in range(lanes):
                out[word + i] |= row[first + i] << shift
        if shift + width > 32:
            rest = np.uint32(32 - shift)
            for i in range(lanes):
                out[word + lanes + i] = row[first + i] >> rest


@inlined
def _unpack_row(packed: Any, width: Any, row: Any) -> None:
    lanes = row.shape[0] // 32
    mask = np.uint32(2**32 - 1) >> np.uint32(32 - width)
    for k in range(32):
        at = k * np.int64(width)
        word, shift, first = at // 32 * lanes, np.uint32(at % 32), k * lanes
        if shift + width <= 32:
            for i in range(lanes):
                row[first + i] = (packed[word + i] >> shift) & mask
        else:
            rest = np.uint32(32 - shift)
            for i in range(lanes):
                row[first + i] = ((packed[word + i] >> shift) | (packed[word + lanes + i] << rest)) & mask


@inlined
def _fit(rows: int, size: int, words: int, widths: Any) -> bool:
    """Whether so many rows are whole polynomials of whole lanes, and take that many words."""
    polynomials, rest = divmod(rows, widths.shape[0])
    return rest == 0 and size % 32 == 0 and words == polynomials * (size // 32) * widths.sum()


@kernel(f"void({_RESIDUES}, {_ROW}, uint32[::1])")
def _pack(residues: Residues, widths: Residues, out: Residues) -> None:
    rows, size = residues.shape
    if not _fit(rows, size, out.shape[0], widths):
        raise ValueError("rows.pack: shapes do not fit")
    start = 0
    for j in range(rows):
        width = widths[j % widths.shape[0]]
        stop = start + size // 32 * np.int64(width)
        pack_row(residues[j], width, out[start:stop])
        start = stop


@kernel(f"void({_WORDS}, {_ROW}, uint32[:, ::1])")
def _unpack(packed: Residues, widths: Residues, out: Residues) -> None:
    rows, size = out.shape
    if not _fit(rows, size, packed.shape[0], widths):
        raise ValueError("rows.unpack: shapes do not fit")
    start = 0
    for j in range(rows):
        width = widths[j % widths.shape[0]]
        stop = start + size // 32 * np.int64(width)
        _unpack_row(packed[start:stop], width, out[j])
        start = stop


@kernel(f"boolean({_WORDS}, {_ROW}, {_ROW}, int64)")
def _all_below(packed: Residues, widths: Residues, primes: Residues, size: int) -> bool:
    count, words = primes.shape[0], size // 32 * np.int64(widths.sum())
    polynomials = packed.shape[0] // words if words > 0 else 0
    if not _fit(polynomials * count, size, packed.shape[0], widths):
        raise ValueError("rows.all_below: no whole polynomials")
    row, start, within = np.empty(size, np.uint32), np.int64(0), True
    for j in range(polynomials * count):
        width, largest = widths[j % count], np.uint32(0)
        stop = start + size // 32 * np.int64(width)
        _unpack_row(packed[start:stop], width, row)
        for i in range(size):
            largest = max(largest, row[i])
        within &= largest < primes[j % count]
        start = stop
    return within


@kernel(f"void(uint32[:, ::1], {_WORDS}, {_ROW}, {_ROW})")
def _add(total: Residues, packed: Residues, widths: Residues, primes: Residues) -> None:
    rows, size = total.shape
    if not _fit(rows, size, packed.shape[0], widths):
        raise ValueError("rows.add: shapes do not fit")
    row, start = np.empty(size, np.uint32), np.int64(0)
    for j in range(rows):
        width, prime, sums = widths[j % widths.shape[0]], primes[j % primes.shape[0]], total[j]
        stop = start + size // 32 * np.int64(width)
        _unpack_row(packed[start:stop], width, row)
        for i in range(size):
            sums[i] = below(np.uint32(sums[i] + row[i]), prime)
        start = stop
