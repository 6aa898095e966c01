"""Uniform residues by rejection, out of a public stream of words."""

import numpy as np
from numpy.typing import NDArray

from native._jit import kernel

_BLOCK = 64
"""Words looked at together: of a 30-bit prime near 2^30 one block in 200 holds a rejected word."""


@kernel("int64(Array(uint32, 1, 'C', readonly=True), uint32, uint32, uint32[::1])")
def keep_below(draws: NDArray[np.uint32], mask: int, bound: int, out: NDArray[np.uint32]) -> int:
    """Write to `out` the draws that are below `bound`, each under `mask`, in their order.

    What is sampled is public, so the time may depend on it: a block without a rejected word is copied as it is.

    Returns:
        How many were written: len(out), or fewer when the draws did not suffice.
    """
    written, read = 0, 0
    while read < draws.shape[0] and written < out.shape[0]:
        size = min(_BLOCK, draws.shape[0] - read, out.shape[0] - written)
        source, target = draws[read : read + size], out[written : written + size]
        largest = np.uint32(0)
        for i in range(size):
            word = np.uint32(source[i] & mask)
            target[i] = word
            largest = max(largest, word)
        read += size
        if largest < bound:
            written += size
            continue
        for i in range(size):
            word = target[i]
            out[written] = word
            written += word < bound
    return written
