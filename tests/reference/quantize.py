"""Floats to ring entries by stochastic rounding, and the sum back; one entry at a time in plain floats."""

import math
from collections.abc import Sequence


def zero_point(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def steps(value: float, clip: float, bits: int, share: float = 1.0) -> float:
    """y: how many quantisation steps of clip/Z the value is, times the weight's share of the largest weight."""
    if not math.isfinite(value):
        raise ValueError("not finite")
    return value * (share / (clip / zero_point(bits)))


def word(y: float, bits: int, draw: int) -> int:
    """Z + clamp(floor(y) + [r < frac(y)]), r = the top 53 bits of a u64 draw."""
    z = zero_point(bits)
    q = math.floor(y)
    if (draw >> 11) * 2.0**-53 < y - math.floor(y):
        q += 1
    return max(-z, min(z, q)) + z


def quantize(values: Sequence[float], clip: float, bits: int, draws: Sequence[int], share: float = 1.0) -> list[int]:
    return [word(steps(value, clip, bits, share), bits, draw) for value, draw in zip(values, draws, strict=True)]


def rotate(block: Sequence[float], negative: Sequence[bool]) -> list[float]:
    """Signs, then the orthonormal Walsh-Hadamard transform of one block, whose length is a power of two."""
    signed = [-y if flip else y for y, flip in zip(block, negative, strict=True)]
    return transform(signed)


def rotate_back(block: Sequence[float], negative: Sequence[bool]) -> list[float]:
    return [-y if flip else y for y, flip in zip(transform(block), negative, strict=True)]


def transform(block: Sequence[float]) -> list[float]:
    out, distance = list(block), 1
    while distance < len(out):
        for i in range(len(out)):
            if not i & distance:
                a, b = out[i], out[i + distance]
                out[i], out[i + distance] = a + b, a - b
        distance *= 2
    return [y * (1.0 / math.sqrt(len(out))) for y in out]


def encode(
    tensors: Sequence[tuple[Sequence[float], float]],
    share: float,
    bits: int,
    draws: Sequence[int],
    negative: Sequence[bool] = (),
) -> list[int]:
    """Tensors, each (values, clip), one after the other in words; rotated as one block of the signs' number, if any."""
    row = [steps(value, clip, bits, share) for values, clip in tensors for value in values]
    if negative:
        row = rotate(row + [0.0] * (len(negative) - len(row)), negative)
    return [word(y, bits, draw) for y, draw in zip(row, draws, strict=True)]


def decode(
    total: Sequence[int],
    participants: int,
    clips: Sequence[float],
    bits: int,
    weight_max: int,
    total_weight: int,
    negative: Sequence[bool] = (),
) -> list[float]:
    """The mean of each entry, whose own clip is named in its place; the padding of a block has none and is dropped."""
    row = [float(entry - participants * zero_point(bits)) for entry in total]
    if negative:
        row = rotate_back(row, negative)
    return [y * (clip / zero_point(bits) * weight_max / total_weight) for y, clip in zip(row, clips, strict=False)]


def dequantize_sum(total: Sequence[int], participants: int, clip: float, bits: int) -> list[float]:
    """(sum − participants·Z)·scale, the integer part exact."""
    return decode(total, participants, [clip] * len(total), bits, 1, 1)
