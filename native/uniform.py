"""Uniform residues by rejection, out of a public stream of words."""

import numpy as np
from numpy.typing import NDArray

from native._jit import kernel


@kernel("int64(uint32[::1], uint32, uint32[::1])")
def keep_below(draws: NDArray[np.uint32], bound: int, out: NDArray[np.uint32]) -> int:
    """Write to `out` the draws that are below `bound`, each cut to the bits of `bound`, in their order.

    Returns:
        How many were written: len(out), or fewer when the draws did not suffice. What is sampled is public.
    """
    mask = np.uint32(1)
    while mask < bound:
        mask = np.uint32(mask << np.uint32(1) | np.uint32(1))
    written = 0
    for i in range(draws.shape[0]):
        if written == out.shape[0]:
            break
        out[written] = draws[i] & mask
        written += out[written] < bound
    return written
