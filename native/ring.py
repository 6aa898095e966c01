"""Words modulo 2^ring_bits: add, subtract, reduce. uint32 holds rings of up to 32 bits, uint64 the others.

Sums may run modulo the whole word and be reduced once at the end: 2^ring_bits divides 2^32 and 2^64.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from native._jit import kernel

Words: TypeAlias = NDArray[np.unsignedinteger[Any]]


def word_dtype(ring_bits: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The dtype of one word: uint32 up to 32 bits, uint64 up to 64.

    Raises:
        ValueError: ring_bits is not in 1..64.
    """
    if not 1 <= ring_bits <= 64:
        raise ValueError(f"ring_bits must be 1..64, not {ring_bits}")
    return np.dtype(np.uint32) if ring_bits <= 32 else np.dtype(np.uint64)


@kernel(
    "void(uint32[::1], Array(uint32, 1, 'C', readonly=True))",
    "void(uint64[::1], Array(uint64, 1, 'C', readonly=True))",
)
def add(total: Words, values: Words) -> None:
    """Compute total += values in place, wrapping; both of the same dtype and length.

    Raises:
        ValueError: the lengths differ.
    """
    if total.shape[0] != values.shape[0]:
        raise ValueError("ring.add: lengths differ")
    for i in range(total.shape[0]):
        total[i] += values[i]


@kernel(
    "void(uint32[::1], Array(uint32, 1, 'C', readonly=True))",
    "void(uint64[::1], Array(uint64, 1, 'C', readonly=True))",
)
def subtract(total: Words, values: Words) -> None:
    """Compute total -= values in place, wrapping; both of the same dtype and length.

    Raises:
        ValueError: the lengths differ.
    """
    if total.shape[0] != values.shape[0]:
        raise ValueError("ring.subtract: lengths differ")
    for i in range(total.shape[0]):
        total[i] -= values[i]


def reduce(values: Words, ring_bits: int) -> None:
    """Keep values mod 2^ring_bits, in place.

    Raises:
        ValueError: ring_bits is not in 1..64, or `values` is not of the dtype of that ring.
    """
    if values.dtype != word_dtype(ring_bits):
        raise ValueError(f"a ring of {ring_bits} bits is kept in {word_dtype(ring_bits)}, not in {values.dtype}")
    if ring_bits < 8 * values.itemsize:
        _keep(values, np.uint64((1 << ring_bits) - 1))


@kernel("void(uint32[::1], uint64)", "void(uint64[::1], uint64)")
def _keep(values: Words, mask: np.uint64) -> None:
    for i in range(values.shape[0]):
        values[i] &= mask
