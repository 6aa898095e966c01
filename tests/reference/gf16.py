"""GF(2^16) = GF(2)[x] / (x^16 + x^12 + x^3 + x + 1) on plain integers: no tables, nothing of Sangam's.

The slow twin of `native.field` and `aggregator.crypto.shamir`. A word is an int in 0..65535; bit i is the coefficient
of x^i. A secret is a list of words, a share likewise; evaluation points are 1..65535.
"""

from collections.abc import Mapping, Sequence

POLYNOMIAL = 0x1100B


def multiply(a: int, b: int) -> int:
    """The product of two field elements, by shift and add."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x10000:
            a ^= POLYNOMIAL
        b >>= 1
    return product


def power(a: int, exponent: int) -> int:
    """`a` to a non-negative exponent."""
    result = 1
    for _ in range(exponent):
        result = multiply(result, a)
    return result


def inverse(a: int) -> int:
    """The b with a·b = 1, as a^(2^16 − 2): a · a^2 · a^4 ... without the first factor."""
    if not 0 < a < 65536:
        raise ZeroDivisionError(a)
    result, square = 1, a
    for _ in range(15):
        square = multiply(square, square)
        result = multiply(result, square)
    return result


def split(secret: Sequence[int], coefficients: Sequence[Sequence[int]], points: Sequence[int]) -> list[list[int]]:
    """One share per point: word i of it is secret[i] + Σ_j coefficients[j − 1][i] · point^j."""
    shares = []
    for point in points:
        share = list(secret)
        point_to_j = 1
        for row in coefficients:
            point_to_j = multiply(point_to_j, point)
            share = [word ^ multiply(c, point_to_j) for word, c in zip(share, row, strict=True)]
        shares.append(share)
    return shares


def lagrange_at_zero(points: Sequence[int]) -> list[int]:
    """λ_i = Π_{j≠i} x_j / (x_j − x_i); minus is plus here."""
    weights = []
    for i, x in enumerate(points):
        weight = 1
        for j, other in enumerate(points):
            if j != i:
                weight = multiply(weight, multiply(other, inverse(other ^ x)))
        weights.append(weight)
    return weights


def combine(shares: Mapping[int, Sequence[int]]) -> list[int]:
    """The secret from shares by evaluation point; every share given is used."""
    points = sorted(shares)
    secret = [0] * len(shares[points[0]])
    for point, weight in zip(points, lagrange_at_zero(points), strict=True):
        secret = [word ^ multiply(y, weight) for word, y in zip(secret, shares[point], strict=True)]
    return secret
