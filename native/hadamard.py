"""The randomised Walsh-Hadamard transform: random signs, then sums and differences over whole blocks.

The transform is orthonormal, hence its own inverse. It spreads one large entry over a whole block.
"""

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


@kernel("void(float64[::1], Array(uint32, 1, 'C', readonly=True))")
def flip(values: NDArray[np.float64], bits: NDArray[np.uint32]) -> None:
    """Change the sign of each value whose word in `bits` is not zero, in place.

    Raises:
        ValueError: the lengths differ.
    """
    if values.shape[0] != bits.shape[0]:
        raise ValueError("hadamard.flip: lengths differ")
    for i in range(values.shape[0]):
        values[i] *= -1.0 if bits[i] else 1.0


@kernel("void(float64[::1], int64)")
def _transform(values: NDArray[np.float64], block: Any) -> None:
    """Butterflies at distance 1, 2, 4 ... block / 2, then one scaling, block after block (a block stays in cache).

    Two distances go in one pass over the block: the same additions, with half the loads and stores. That, and quarters
    that LLVM knows to be rows of their own, takes 0.3 of the time of one distance after the other.
    """
    scale = 1.0 / np.sqrt(np.float64(block))
    for start in range(0, values.shape[0], block):
        v = values[start : start + block]
        d = 1
        while 4 * d <= block:
            for at in range(0, block, 4 * d):
                first, second = v[at : at + d], v[at + d : at + 2 * d]
                third, fourth = v[at + 2 * d : at + 3 * d], v[at + 3 * d : at + 4 * d]
                for i in range(d):
                    a, b, c, e = first[i] + second[i], first[i] - second[i], third[i] + fourth[i], third[i] - fourth[i]
                    first[i], second[i], third[i], fourth[i] = a + c, b + e, a - c, b - e
            d *= 4
        if d < block:  # an odd number of distances
            for i in range(d):
                a, b = v[i], v[i + d]
                v[i], v[i + d] = a + b, a - b
        for i in range(block):
            v[i] *= scale
