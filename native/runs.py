"""Runs: neighbouring entries that share one number, as the entries of a tensor share its scale."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from native._jit import kernel

Numbers: TypeAlias = NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int64]

_VALUES = [f"Array({name}, 1, 'C', readonly=True)" for name in ("float32", "float64", "int64")]
_RUNS = "Array(int64, 1, 'C', readonly=True), Array(float64, 1, 'C', readonly=True)"


@kernel(*(f"void({values}, {_RUNS}, float64[::1])" for values in _VALUES))
def multiply(values: Numbers, ends: NDArray[np.int64], by: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Write entries ends[k - 1] (0 for the first run) to ends[k], times by[k], into `out`, which may be `values`.

    What overflows becomes infinite.

    Raises:
        ValueError: lengths differ, or the ends do not ascend to the number of values.
    """
    entries = values.shape[0]
    if out.shape[0] != entries or ends.shape[0] != by.shape[0]:
        raise ValueError("runs.multiply: lengths differ")
    start = 0
    for k in range(ends.shape[0]):
        end = ends[k]
        if end < start or end > entries:
            raise ValueError("runs.multiply: ends are out of order")
        number, run, target = by[k], values[start:end], out[start:end]
        for i in range(end - start):  # indices that cannot be negative: LLVM vectorises that
            target[i] = np.float64(run[i]) * number
        start = end
    if start != entries:
        raise ValueError("runs.multiply: the ends do not reach the last value")
