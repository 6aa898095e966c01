"""Messages of many slots, T·e + m modulo several primes, and back through Q = their product; plain integers."""

import math
from collections.abc import Sequence


def messages(words: Sequence[int], slot_bits: int, slots: int, stride: int) -> list[int]:
    """m_i = Σ_k words[k·stride + i]·2^(k·slot_bits), nothing behind the last entry."""
    padded = [*words, *[0] * (stride * slots - len(words))]
    return [sum(padded[k * stride + i] << k * slot_bits for k in range(slots)) for i in range(stride)]


def entries(coefficients: Sequence[int], slot_bits: int, slots: int, count: int) -> list[int]:
    """The first `count` entries of messages, slot after slot."""
    return [(m >> k * slot_bits) % 2**slot_bits for k in range(slots) for m in coefficients][:count]


def residues(values: Sequence[int], primes: Sequence[int]) -> list[list[int]]:
    return [[value % prime for value in values] for prime in primes]


def centred(rows: Sequence[Sequence[int]], primes: Sequence[int]) -> list[int]:
    """The numbers nearest to zero with these residues, by the Chinese remainder theorem."""
    modulus = math.prod(primes)
    weights = [modulus // prime * pow(modulus // prime, -1, prime) for prime in primes]
    values = [sum(w * r for w, r in zip(weights, column, strict=True)) % modulus for column in zip(*rows, strict=True)]
    return [value - modulus if value > modulus // 2 else value for value in values]
