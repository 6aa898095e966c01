"""The discrete Gaussian over the integers, P[X = x] ∝ exp(-x²/(2·variance)), in plain fixed-point integers."""

from collections.abc import Sequence
from fractions import Fraction

PRECISION = 400
ONE = 1 << PRECISION


def exponential(exponent: Fraction) -> int:
    """exp(-exponent) · 2^400 by Taylor's series, for 0 <= exponent; off by a few hundred units at most."""
    halvings = max(0, exponent.numerator.bit_length() - exponent.denominator.bit_length() + 1)
    small = exponent / 2**halvings
    total, term, n = 0, ONE, 0
    while term:
        total += -term if n % 2 else term
        n += 1
        term = term * small.numerator // (n * small.denominator)
    for _ in range(halvings):
        total = total * total >> PRECISION
    return total


def weights(variance: Fraction, count: int) -> list[int]:
    """P[|X| = 0], P[|X| = 1] ... P[|X| = count - 1] but for a common factor; two signs, one zero."""
    return [ONE] + [2 * exponential(k * k / (2 * variance)) for k in range(1, count)]


def draw(word: int, table: Sequence[int]) -> int:
    """The sample of one 64-bit word: low 63 bits against every entry of the table, the top bit as the sign."""
    magnitude = sum(word % 2**63 >= entry for entry in table)
    return -magnitude if word >> 63 else magnitude
