"""Rows of residues, each packed at a width of its own: how polynomials modulo several primes travel.

A row of n residues below a prime of b bits takes n·b/8 bytes, in the bit stream of native.pack. n is a multiple of 64,
so every row is whole words. Polynomials follow one another: row j is modulo primes[j mod k], k being their number.
Checks and sums come straight from the packed bytes, a row at a time, which stays in the first-level cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from native._jit import inlined, kernel
from native.pack import pack_words, unpack_words
from native.shoup import below

Residues = NDArray[np.uint32]
Widths = NDArray[np.int64]
Octets = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The primes of a polynomial's rows and the bits of each; made by `Rows.of`. Arrays are read-only."""

    size: int
    primes: Residues = field(repr=False)
    widths: Widths = field(repr=False)

    @classmethod
    def of(cls, primes: Sequence[int], widths: Sequence[int], size: int) -> "Rows":
        """Rows of n = size residues.

        Raises:
            ValueError: n is no multiple of 64, not one width per prime, or a prime is not below 2^31 or wider than its
                width.
        """
        if size < 64 or size % 64 or not primes or len(primes) != len(widths):
            raise ValueError(f"rows: {len(primes)} primes, {len(widths)} widths, {size} residues")
        if not all(
            0 < prime < 2 ** min(31, width) and width <= 32 for prime, width in zip(primes, widths, strict=True)
        ):
            raise ValueError("rows: a prime does not fit its width")
        arrays: list[NDArray[np.generic]] = [np.array(primes, np.uint32), np.array(widths, np.int64)]
        for array in arrays:
            array.flags.writeable = False
        return cls(size, *arrays)  # type: ignore[arg-type]

    @property
    def polynomial_bytes(self) -> int:
        """Of one polynomial, packed."""
        return int(self.widths.sum()) * self.size // 8


def pack(residues: Residues, rows: Rows) -> Octets:
    """The packed bytes of whole polynomials, uint32[polynomials · primes, n].

    Raises:
        ValueError: the shape does not fit.
    """
    if residues.ndim != 2 or residues.shape[1] != rows.size or len(residues) % len(rows.primes):
        raise ValueError("rows.pack: shapes do not fit")
    out = np.zeros(len(residues) // len(rows.primes) * rows.polynomial_bytes, np.uint8)
    _pack(residues, rows.widths, out.view(np.uint64))
    return out


def unpack(data: Octets, rows: Rows) -> Residues:
    """The residues of whole polynomials, uint32[polynomials · primes, n]; whether they are below is not looked at.

    Raises:
        ValueError: the length is not that of whole polynomials.
    """
    out = np.empty((_polynomials(data, rows) * len(rows.primes), rows.size), np.uint32)
    _unpack(data, rows.widths, out)
    return out


def all_below(data: Octets, rows: Rows) -> bool:
    """Whether every residue of whole polynomials, packed, is below its prime; run on whatever arrives.

    Raises:
        ValueError: as `unpack`.
    """
    return _all_below(data, _polynomials(data, rows), rows.size, rows.widths, rows.primes)


def add(total: Residues, data: Octets, rows: Rows) -> None:
    """Compute total = (total + data) mod primes in place, `data` packed; all residues below their prime.

    Args:
        total: uint32[polynomials · primes, n].
        data: as many polynomials.
        rows: their primes and widths.

    Raises:
        ValueError: the shapes do not fit.
    """
    if total.shape != (_polynomials(data, rows) * len(rows.primes), rows.size):
        raise ValueError("rows.add: shapes do not fit")
    _add(total, data, rows.widths, rows.primes)


def _polynomials(data: Octets, rows: Rows) -> int:
    count, rest = divmod(len(data), rows.polynomial_bytes)
    if rest:
        raise ValueError(f"rows: {len(data)} bytes are no whole polynomials of {rows.polynomial_bytes}")
    return count


_BYTES, _WIDTHS = "Array(uint8, 1, 'C', readonly=True)", "Array(int64, 1, 'C', readonly=True)"
_ROW, _READ_ONLY = "Array(uint32, 1, 'C', readonly=True)", "Array(uint32, 2, 'C', readonly=True)"


@kernel(f"void({_READ_ONLY}, {_WIDTHS}, uint64[::1])")
def _pack(residues: Residues, widths: Widths, out: NDArray[np.uint64]) -> None:
    size, start = residues.shape[1], 0
    for j in range(residues.shape[0]):
        width = widths[j % widths.shape[0]]
        stop = start + size * width // 64
        pack_words(residues[j], np.uint64(width), out[start:stop])
        start = stop


@kernel(f"void({_BYTES}, {_WIDTHS}, uint32[:, ::1])")
def _unpack(data: Octets, widths: Widths, out: Residues) -> None:
    size, start = out.shape[1], 0
    for j in range(out.shape[0]):
        width = widths[j % widths.shape[0]]
        stop = start + size * width // 8
        unpack_words(data[start:stop], np.uint64(width), out[j])
        start = stop


@inlined
def _largest(row: Residues) -> np.uint32:
    largest = np.uint32(0)
    for i in range(row.shape[0]):
        largest = max(largest, row[i])
    return largest


@kernel(f"boolean({_BYTES}, int64, int64, {_WIDTHS}, {_ROW})")
def _all_below(data: Octets, polynomials: int, size: int, widths: Widths, primes: Residues) -> bool:
    row, start, within = np.empty(size, np.uint32), 0, True
    for j in range(polynomials * primes.shape[0]):
        width = widths[j % primes.shape[0]]
        stop = start + size * width // 8
        unpack_words(data[start:stop], np.uint64(width), row)
        within &= _largest(row) < primes[j % primes.shape[0]]
        start = stop
    return within


@kernel(f"void(uint32[:, ::1], {_BYTES}, {_WIDTHS}, {_ROW})")
def _add(total: Residues, data: Octets, widths: Widths, primes: Residues) -> None:
    size, start = total.shape[1], 0
    row = np.empty(size, np.uint32)
    for j in range(total.shape[0]):
        width, prime = widths[j % primes.shape[0]], primes[j % primes.shape[0]]
        stop = start + size * width // 8
        unpack_words(data[start:stop], np.uint64(width), row)
        sums = total[j]
        for i in range(size):
            sums[i] = below(np.uint32(sums[i] + row[i]), prime)
        start = stop
