"""Encoding in tests: fixed seeds, and what long vectors should give, all at once in NumPy."""

import numpy as np

from aggregator.protocol import encoding
from tests.consortium import drbg
from tests.reference import keystream

CTX0 = bytes(range(32))
SEED = drbg("rounding")(32)
BLOCK = 1 << 17  # entries whose draws are one PRG chunk


def encode(update, weight, made, label=0):
    return encoding.encode(update, weight, made, CTX0, drbg("rounding", label)(32))


def total_of(encoded, made):
    total = encoded[0].words.copy()
    for each in encoded[1:]:
        total += each.words
    return total & (2**made.ring_bits - 1)


def backwards(function, items):
    """A map that comes from the other end."""
    return reversed([function(item) for item in reversed(list(items))])


def slowly(values, weight, made, seed):
    """What `encode` gives for one long tensor, all at once in NumPy: words without limbs, and how many are clipped."""
    x = np.zeros(made.coded_entries)
    x[: values.size] = values
    y = x * (weight / made.weight_max / made.scale)
    return rounded(transform(y * signs(made), made.rotation_block) if made.rotate else y, made, seed)


def rounded(y, made, seed):
    """Words of numbers in steps, and how many are clipped."""
    raw = keystream.stream(seed, CTX0, "rounding", 8 * y.size)
    uniform = (np.frombuffer(raw, "<u8") >> 11).astype(np.float64) * 2.0**-53
    rounded = np.floor(y) + (uniform < y - np.floor(y))
    kept = np.clip(rounded, -made.zero_point, made.zero_point)
    return kept.astype(np.int64) + made.zero_point, int((kept != rounded).sum())


def signs(made):
    raw = keystream.stream(CTX0, CTX0, "rotation", 4 * made.coded_entries)
    return np.where(np.frombuffer(raw, "<u4") & 1, -1.0, 1.0)


def transform(x, block):
    """Walsh-Hadamard, one distance after the other."""
    distance = 1
    while distance < block:
        a, b = x.reshape(-1, 2, distance).swapaxes(0, 1)
        x = np.stack([a + b, a - b], axis=1).reshape(-1)
        distance *= 2
    return x * (1.0 / np.sqrt(block))
