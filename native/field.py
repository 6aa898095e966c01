"""GF(2^16), polynomial x^16 + x^12 + x^3 + x + 1: what Shamir's sharing evaluates and interpolates.

No tables and no branches on a secret word: a look-up's address, or a branch, would tell the cache or the clock what it
is. Evaluation points and Lagrange weights are public, but are treated alike. Words are uint32 below 2^16.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from native._jit import inlined, kernel

Elements = NDArray[np.uint32]


@inlined
def _multiply(a: Any, b: Any) -> Any:
    """a·b: a carry-less product of up to 31 bits, folded four times by x^16 = x^12 + x^3 + x + 1.

    a · (b & 2^bit) is a shifted, or nothing, without a branch, and it is what LLVM vectorises: 1.3 ns per product where
    shift, mask and reduce bit by bit took 10.
    """
    product = np.uint32(0)
    for bit in range(16):
        product = np.uint32(product ^ np.uint32(np.uint32(a) * np.uint32(b & np.uint32(1 << bit))))
    for _ in range(4):
        high = np.uint32(product >> np.uint32(16))
        folded = high ^ (high << np.uint32(1)) ^ (high << np.uint32(3)) ^ (high << np.uint32(12))
        product = np.uint32((product & np.uint32(0xFFFF)) ^ folded)
    return product


@inlined
def _inverse(a: Any) -> Any:
    """a^(2^16 - 2) = a^2 · a^4 · ... · a^(2^15); zero stays zero."""
    square, result = a, np.uint32(1)
    for _ in range(15):
        square = _multiply(square, square)
        result = _multiply(result, square)
    return result


@kernel("void(Array(uint32, 2, 'C', readonly=True), Array(uint32, 1, 'C', readonly=True), uint32[:, ::1])")
def evaluate(coefficients: Elements, points: Elements, out: Elements) -> None:
    """out[h, w] = Σ_j coefficients[j, w] · points[h]^j, by Horner's rule; run by the dealer.

    Args:
        coefficients: [threshold, words]; row 0 is the secret.
        points: [holders], public.
        out: [holders, words].

    Raises:
        ValueError: the shapes do not fit.
    """
    if out.shape[0] != points.shape[0] or out.shape[1] != coefficients.shape[1]:
        raise ValueError("field.evaluate: shapes do not fit")
    for h in range(points.shape[0]):
        out[h, :] = 0
        for j in range(coefficients.shape[0] - 1, -1, -1):
            for w in range(out.shape[1]):
                out[h, w] = _multiply(out[h, w], points[h]) ^ coefficients[j, w]


@kernel("void(Array(uint32, 1, 'C', readonly=True), uint32[::1])")
def lagrange_at_zero(points: Elements, out: Elements) -> None:
    """out[i] = Π_{j != i} x_j / (x_j - x_i) for distinct, non-zero points; run by whoever combines.

    Raises:
        ValueError: the lengths differ.
    """
    if out.shape[0] != points.shape[0]:
        raise ValueError("field.lagrange_at_zero: lengths differ")
    below = np.ones_like(out)
    out[:] = 1
    for j in range(points.shape[0]):
        for i in range(points.shape[0]):
            same = np.uint32(i == j)
            out[i] = _multiply(out[i], points[j] * (np.uint32(1) - same) + same)
            below[i] = _multiply(below[i], (points[j] ^ points[i]) + same)
    for i in range(points.shape[0]):
        out[i] = _multiply(out[i], _inverse(below[i]))


@kernel("void(Array(uint32, 2, 'C', readonly=True), Array(uint32, 1, 'C', readonly=True), uint32[::1])")
def weighted_sum(shares: Elements, weights: Elements, out: Elements) -> None:
    """out[w] = Σ_i weights[i] · shares[i, w]: with Lagrange's weights at zero, the secret.

    Raises:
        ValueError: the shapes do not fit.
    """
    if shares.shape[0] != weights.shape[0] or shares.shape[1] != out.shape[0]:
        raise ValueError("field.weighted_sum: shapes do not fit")
    out[:] = 0
    for i in range(shares.shape[0]):
        for w in range(out.shape[0]):
            out[w] ^= _multiply(shares[i, w], weights[i])
