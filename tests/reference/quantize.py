"""Floats to ring entries by stochastic rounding, and the sum back; one entry at a time in plain floats."""

import math
from collections.abc import Sequence
from fractions import Fraction


def zero_point(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def quantize_one(value: float, clip: float, bits: int, draw: int) -> int:
    """Z + clamp(floor(y) + [r < frac(y)]), y = value/(clip/Z), r = the top 53 bits of a u64 draw."""
    if not math.isfinite(value):
        raise ValueError("not finite")
    z = zero_point(bits)
    y = value / (clip / z)
    q = math.floor(y)
    if (draw >> 11) * 2.0**-53 < y - math.floor(y):
        q += 1
    return max(-z, min(z, q)) + z


def quantize(values: Sequence[float], clip: float, bits: int, draws: Sequence[int]) -> list[int]:
    return [quantize_one(value, clip, bits, draw) for value, draw in zip(values, draws, strict=True)]


def dequantize_sum(total: Sequence[int], participants: int, clip: float, bits: int) -> list[float]:
    """(sum − participants·Z)·scale, the integer part exact."""
    z = zero_point(bits)
    return [(entry - participants * z) * (clip / z) for entry in total]


def expected(value: float, clip: float, bits: int) -> Fraction:
    """The exact mean of the decoded entry inside the clip: the value itself, by the float scale."""
    z = zero_point(bits)
    y = Fraction(value / (clip / z))
    return max(Fraction(-z), min(Fraction(z), y)) * Fraction(clip / z)
