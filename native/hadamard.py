"""The Walsh-Hadamard transform, orthonormal: its own inverse. It spreads one large entry over a whole block."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from native._jit import kernel


def walsh_hadamard(values: NDArray[np.float64], block: int) -> None:
    """Transform each block of `block` entries in place; float64, run by whoever rotates or rotates back.

    Raises:
        ValueError: block is not a power of two, or does not divide len(values).
    """
    if block < 1 or block & (block - 1) or len(values) % block:
        raise ValueError(f"blocks of {block} entries do not divide {len(values)} entries into powers of two")
    _transform(values, block)


@kernel("void(float64[::1], int64)")
def _transform(values: NDArray[np.float64], block: Any) -> None:
    """Butterflies at distance 1, 2, 4 ... block / 2, then one scaling, block after block (a block stays in cache)."""
    scale = 1.0 / np.sqrt(np.float64(block))
    for start in range(0, values.shape[0], block):
        distance = 1
        while distance < block:
            for pair in range(start, start + block, 2 * distance):
                for i in range(pair, pair + distance):
                    a, b = values[i], values[i + distance]
                    values[i], values[i + distance] = a + b, a - b
            distance *= 2
        for i in range(start, start + block):
            values[i] *= scale
