"""Floats to ring words by stochastic rounding; the mean of many roundings is the number itself.

    y = x · ratio,   q = floor(y) + [r < y - floor(y)],   word = clamp(q, -limit, limit) + limit

with r the upper 53 bits of a 64-bit draw, as a fraction. Values are float32[entries] or float64[entries], draws are
uint64[entries]; all arithmetic is in float64.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from native._jit import kernel
from native.ring import Words

Values: TypeAlias = NDArray[np.float32] | NDArray[np.float64]

LIMIT_MAX = 2**53 - 1
"""The largest limit: beyond it float64 no longer holds every integer."""


def quantize(values: Values, ratio: float, limit: int, draws: NDArray[np.uint64], out: Words) -> tuple[int, int]:
    """Write one word in 0..2·limit per value into `out`, uint32 or uint64; `ratio` is how many steps make one unit.

    Returns:
        How many values were clipped, and the index of the first that is NaN or infinite, or -1. Where one is, the
        words and the count mean nothing: the values are read once, so it is the caller who discards them.

    Raises:
        ValueError: lengths differ, ratio is not positive and finite, or limit is not in 1..LIMIT_MAX or too large for
            the dtype of `out`.
    """
    if not 0.0 < ratio < float("inf"):
        raise ValueError("quantize: ratio must be positive and finite")
    if not 1 <= limit <= min(LIMIT_MAX, 2 ** (8 * out.itemsize - 1) - 1):
        raise ValueError(f"quantize: limit {limit} does not fit {out.dtype}")
    return _quantize(values, ratio, limit, draws, out)


_FLOATS = [f"Array({name}, 1, 'C', readonly=True)" for name in ("float32", "float64")]
_REST = "float64, int64, Array(uint64, 1, 'C', readonly=True)"


@kernel(*(f"UniTuple(int64, 2)({x}, {_REST}, {word}[::1])" for x in _FLOATS for word in ("uint32", "uint64")))
def _quantize(values: Values, ratio: float, limit: Any, draws: NDArray[np.uint64], out: Words) -> tuple[int, int]:
    if values.shape[0] != draws.shape[0] or values.shape[0] != out.shape[0]:
        raise ValueError("quantize: lengths differ")
    top = np.float64(limit)
    entries = values.shape[0]
    clipped = 0
    first_bad = entries
    for i in range(entries):
        x = np.float64(values[i])
        first_bad = min(first_bad, entries if np.isfinite(x) else i)
        y = x * ratio
        below = np.floor(y)
        uniform = np.float64(np.int64(draws[i] >> np.uint64(11))) * 2.0**-53
        rounded = below + (1.0 if uniform < y - below else 0.0)
        # Clamped while still a float: 1e300 has no int64. NaN, which is above nothing, becomes the least word.
        kept = rounded if rounded > -top else -top
        kept = kept if kept < top else top
        clipped += kept != rounded
        out[i] = np.int64(kept) + limit
    return clipped, first_bad if first_bad < entries else -1


@kernel(*(f"int64({values})" for values in _FLOATS))
def first_non_finite(values: Values) -> int:
    """The index of the first NaN or infinity, or -1."""
    for i in range(values.shape[0]):
        if not np.isfinite(values[i]):
            return i
    return -1
