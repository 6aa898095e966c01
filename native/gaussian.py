"""The discrete Gaussian over the integers, P[X = x] ∝ exp(-x²/(2·variance)), by inverse CDT; keys and errors are drawn.

One 64-bit draw makes one sample: its top bit is the sign, the 63 bits below it decide |X| against the folded table

    table[k] = round(2^63 · P[|X| ≤ k])          |X| = number of entries that do not exceed the 63 bits

Zero is one magnitude, not two, so both signs of it are the same sample. The table ends before the first entry that
would round to 2^63, hence |X| ≤ len(table), and what lies beyond can never occur:

    std 4.5    (variance 81/4, keys)    41 entries: |X| ≤ 41 = 9.11 std    statistical distance < 2^-60.4
    std 6.364  (variance 81/2, errors)  58 entries: |X| ≤ 58 = 9.11 std    statistical distance < 2^-59.8

These distances are computed, the tail included (tests/native/test_gaussian.py). They bound the error per sample: each
entry is off by 2^-64 at most, and the distance is at most the sum over all entries of how far they are off.

Source: inverse transform sampling with a cumulative table, as in Peikert 2010 (eprint 2010/088); constant time by a
scan of the whole table, as in Bos et al. 2016 (Frodo, eprint 2016/659).
"""

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from native._jit import kernel

KEY_VARIANCE = Fraction(81, 4)
"""std 4.5."""

ERROR_VARIANCE = Fraction(81, 2)
"""std 6.364: √2 times that of the keys."""

MAGNITUDE_BITS = 63

_DIGITS = 60
"""The table needs 19; sums of a few hundred terms lose three."""

_BLOCK = 256
"""Samples at once: with their counts they stay in the first-level cache."""


def cumulative_table(variance: Fraction) -> NDArray[np.int64]:
    """The folded table of D_{Z, σ}, σ² = variance; ascending, read-only, made without floating point.

    Raises:
        ValueError: variance is not in 1/100 .. 10^6, where the table would be trivial, or slow to scan.
    """
    if not Fraction(1, 100) <= variance <= 10**6:
        raise ValueError(f"gaussian: no table for variance {variance}")
    table = np.array(_cumulative(variance), dtype=np.int64)
    table.flags.writeable = False
    return table


def _cumulative(variance: Fraction) -> list[int]:
    with localcontext(prec=_DIGITS):
        step = -Decimal(variance.denominator) / Decimal(2 * variance.numerator)
        weights = [Decimal(1)]  # of |X| = 0, 1, 2 ...: zero has no other sign
        while weights[-1] > Decimal(10) ** -_DIGITS:
            weights.append(2 * (step * len(weights) ** 2).exp())
        scale = 2**MAGNITUDE_BITS / sum(weights)
        entries, total = [], Decimal(0)
        for weight in weights:
            total += weight
            entries.append(int((total * scale).to_integral_value()))
    return [entry for entry in entries if entry < 2**MAGNITUDE_BITS]


@kernel("void(Array(uint64, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), int32[::1])")
def sample(draws: NDArray[np.uint64], table: NDArray[np.int64], out: NDArray[np.int32]) -> None:
    """Turn uniform 64-bit draws into samples, out[i] from draws[i]; run by the client, for its key and its errors.

    Every draw is compared with every entry, in an order that depends on lengths only: no branch and no address depends
    on a draw or a sample. Eight entries to a pass, since each pass loads and stores the counts.

    Args:
        draws: [samples], secret.
        table: [entries], from `cumulative_table`; public.
        out: [samples].

    Raises:
        ValueError: the lengths differ.
    """
    if draws.shape[0] != out.shape[0]:
        raise ValueError("gaussian.sample: lengths differ")
    magnitudes = np.empty(_BLOCK, np.int64)
    counts = np.empty(_BLOCK, np.int64)
    entries = table.shape[0]
    for start in range(0, draws.shape[0], _BLOCK):
        size = min(_BLOCK, draws.shape[0] - start)
        for i in range(size):
            magnitudes[i] = np.int64(draws[start + i] & np.uint64(0x7FFFFFFFFFFFFFFF))
            counts[i] = 0
        for k in range(0, entries - 7, 8):
            a, b, c, d = table[k], table[k + 1], table[k + 2], table[k + 3]
            e, f, g, h = table[k + 4], table[k + 5], table[k + 6], table[k + 7]
            for i in range(size):
                u = magnitudes[i]
                low = np.int64(u >= a) + np.int64(u >= b) + np.int64(u >= c) + np.int64(u >= d)
                high = np.int64(u >= e) + np.int64(u >= f) + np.int64(u >= g) + np.int64(u >= h)
                counts[i] += low + high
        for k in range(entries - entries % 8, entries):
            for i in range(size):
                counts[i] += np.int64(magnitudes[i] >= table[k])
        for i in range(size):
            sign = np.int64(draws[start + i]) >> 63  # 0 or -1
            out[start + i] = (counts[i] ^ sign) - sign
