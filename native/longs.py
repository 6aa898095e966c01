"""Sums of residues modulo primes of up to 62 bits, as SEAL keeps them: one to a 64-bit word.

A ciphertext is uint64[polynomials, primes, coefficients], row j of each polynomial modulo primes[j], every value below
its prime. What arrives may lie at any address: behind the head of a message.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from native._jit import inlined, kernel

Longs = NDArray[np.uint64]

_RECEIVED = "Array(uint64, 3, 'C', readonly=True, aligned=False)"
_ROW = "Array(uint64, 1, 'C', readonly=True)"


@inlined
def _fits(total: Any, values: Any, primes: Any) -> bool:
    return bool(total.shape == values.shape and total.shape[1] == primes.shape[0])


@kernel(f"boolean({_RECEIVED}, {_ROW})")
def all_below(values: Longs, primes: Longs) -> bool:
    """Whether every residue is below its prime; run on whatever arrives.

    Raises:
        ValueError: there are not as many rows as primes.
    """
    if values.shape[1] != primes.shape[0]:
        raise ValueError("longs.all_below: shapes do not fit")
    within = True
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            row, largest = values[i, j], np.uint64(0)
            for k in range(row.shape[0]):
                largest = max(largest, row[k])
            within &= largest < primes[j]
    return within


@kernel(f"void(uint64[:, :, ::1], {_RECEIVED}, {_ROW})")
def add(total: Longs, values: Longs, primes: Longs) -> None:
    """Compute total = (total + values) mod primes in place; all values below their prime, primes at most 2^62.

    Raises:
        ValueError: the shapes do not fit.
    """
    if not _fits(total, values, primes):
        raise ValueError("longs.add: shapes do not fit")
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            sums, row, prime = total[i, j], values[i, j], primes[j]
            for k in range(row.shape[0]):
                value = sums[k] + row[k]
                sums[k] = min(value, value - prime)  # below the prime the difference wraps, and is the larger one


@kernel(f"void(uint64[:, :, ::1], {_RECEIVED}, {_ROW})")
def subtract(total: Longs, values: Longs, primes: Longs) -> None:
    """Compute total = (total - values) mod primes in place; else as `add`.

    Raises:
        ValueError: the shapes do not fit.
    """
    if not _fits(total, values, primes):
        raise ValueError("longs.subtract: shapes do not fit")
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            sums, row, prime = total[i, j], values[i, j], primes[j]
            for k in range(row.shape[0]):
                value = sums[k] - row[k]
                sums[k] = min(value, value + prime)
