"""Runs: neighbouring entries that share one number, as the entries of a tensor share its scale."""

import numpy as np
from numpy.typing import NDArray

from native._jit import kernel


@kernel("void(float64[::1], Array(int64, 1, 'C', readonly=True), Array(float64, 1, 'C', readonly=True))")
def multiply(values: NDArray[np.float64], ends: NDArray[np.int64], by: NDArray[np.float64]) -> None:
    """Multiply the entries from ends[k - 1] (0 for the first run) to ends[k] by by[k], in place.

    Raises:
        ValueError: ends and numbers differ in length, or the ends do not ascend to the number of values.
    """
    if ends.shape[0] != by.shape[0]:
        raise ValueError("runs.multiply: lengths differ")
    start = 0
    for k in range(ends.shape[0]):
        end = ends[k]
        if end < start or end > values.shape[0]:
            raise ValueError("runs.multiply: ends are out of order")
        number = by[k]
        for i in range(start, end):
            values[i] *= number
        start = end
    if start != values.shape[0]:
        raise ValueError("runs.multiply: the ends do not reach the last value")
