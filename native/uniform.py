"""Uniform residues by rejection, out of public streams of words."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from native._jit import inlined, kernel

_BLOCK = 64
"""Words looked at together: of a 30-bit prime near 2^30 one block in 200 holds a rejected word."""


@inlined
def _keep_below(draws: Any, mask: Any, bound: Any, out: Any) -> bool:
    """A block without a rejected word is copied as it is."""
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
    return bool(written == out.shape[0])


@kernel(
    "boolean(Array(uint32, 3, 'C', readonly=True), uint32, Array(uint32, 1, 'C', readonly=True), uint32[:, :, ::1])"
)
def fill_below(draws: NDArray[np.uint32], mask: int, bounds: NDArray[np.uint32], out: NDArray[np.uint32]) -> bool:
    """Fill each row of `out` with those words of its row of `draws` that, under `mask`, are below the row's bound.

    In their order. What is sampled is public, so the time may depend on it.

    Args:
        draws: [polynomials, bounds, more words than out has].
        mask: the bits of a word that count.
        bounds: [bounds].
        out: [polynomials, bounds, words].

    Returns:
        Whether all rows had enough words.

    Raises:
        ValueError: the shapes do not fit.
    """
    if draws.shape[:2] != out.shape[:2] or draws.shape[1] != bounds.shape[0]:
        raise ValueError("uniform.fill_below: shapes do not fit")
    enough = True
    for i in range(draws.shape[0]):
        for j in range(bounds.shape[0]):
            enough &= _keep_below(draws[i, j], mask, bounds[j], out[i, j])
    return enough
