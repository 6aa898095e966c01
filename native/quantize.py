"""Floats to ring words by stochastic rounding; the mean of many roundings is the number itself.

    y = x / scale,   q = floor(y) + [r < y - floor(y)],   word = clamp(q, -limit, limit) + limit

with r the upper 53 bits of a 64-bit draw, as a fraction. Vectors are float64[entries], draws uint64[entries].
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from native._jit import kernel
from native.ring import Words

LIMIT_MAX = 2**53 - 1
"""The largest limit: beyond it float64 no longer holds every integer."""


def quantize(values: NDArray[np.float64], scale: float, limit: int, draws: NDArray[np.uint64], out: Words) -> int:
    """Write one word in 0..2·limit per value into `out`, uint32 or uint64; return how many were clipped.

    The caller has checked that the values are finite (`first_non_finite`).

    Raises:
        ValueError: lengths differ, scale is not positive and finite, or limit is not in 1..LIMIT_MAX or too large for
            the dtype of `out`.
    """
    if not 0.0 < scale < float("inf"):
        raise ValueError("quantize: scale must be positive and finite")
    if not 1 <= limit <= min(LIMIT_MAX, np.iinfo(out.dtype).max // 2):
        raise ValueError(f"quantize: limit {limit} does not fit {out.dtype}")
    return int(_quantize(values, scale, limit, draws, out))


@kernel("int64(Array(float64, 1, 'C', readonly=True))")
def first_non_finite(values: NDArray[np.float64]) -> int:
    """The index of the first NaN or infinity, or -1."""
    for i in range(values.shape[0]):
        if not np.isfinite(values[i]):
            return i
    return -1


_READ_ONLY = "Array(float64, 1, 'C', readonly=True), float64, int64, Array(uint64, 1, 'C', readonly=True)"


@kernel(f"int64({_READ_ONLY}, uint32[::1])", f"int64({_READ_ONLY}, uint64[::1])")
def _quantize(values: NDArray[np.float64], scale: float, limit: Any, draws: NDArray[np.uint64], out: Words) -> int:
    if values.shape[0] != draws.shape[0] or values.shape[0] != out.shape[0]:
        raise ValueError("quantize: lengths differ")
    top = np.float64(limit)
    clipped = 0
    for i in range(values.shape[0]):
        y = values[i] / scale
        below = np.floor(y)
        uniform = np.float64(np.int64(draws[i] >> np.uint64(11))) * 2.0**-53
        rounded = below + (1.0 if uniform < y - below else 0.0)
        # Clamped while still a float: 1e300 has no int64.
        kept = min(max(rounded, -top), top)
        clipped += kept != rounded
        out[i] = np.int64(kept) + limit
    return clipped
