"""Shamir's secret sharing over GF(2^16), word by word: any `threshold` shares give the secret, fewer say nothing.

A secret of 2·m bytes is m big-endian 16-bit words, and so is each share. Holder h, counted from 0, holds the value at
the point h + 1 of m polynomials whose constant terms are the secret. Which share is genuine is the caller's business:
the dealer's signed commitments say so.

Source: Shamir 1979; the field as in aggregator's protocol, x^16 + x^12 + x^3 + x + 1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from aggregator.errors import ParameterError
from native import field
from native.field import Elements

Entropy: TypeAlias = Callable[[int], bytes]

HOLDERS_MAX = 65535
"""The field's non-zero points."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """What the shares of these holders are multiplied by; the same for every secret that they hold alike.

    Attributes:
        holders: 0-based, distinct, as many as the threshold.
        at_zero: uint32[len(holders)], Lagrange's coefficients.
    """

    holders: tuple[int, ...]
    at_zero: Elements


def split(secret: bytes, threshold: int, holders: int, entropy: Entropy) -> tuple[bytes, ...]:
    """Share a secret among `holders`, one share each, in order of holder. Run by the dealer.

    Takes len(secret) bytes of entropy for each degree 1 .. threshold - 1, in that order.

    Raises:
        ParameterError: the secret's length is odd or zero, or not 1 <= threshold <= holders <= 65535.
    """
    if not 1 <= threshold <= holders <= HOLDERS_MAX:
        raise ParameterError(f"shamir: threshold {threshold} of {holders} holders; at most {HOLDERS_MAX}")
    _check_length(len(secret))
    rows = [secret, *(entropy(len(secret)) for _ in range(1, threshold))]
    shares = np.empty((holders, len(secret) // 2), dtype=np.uint32)
    field.evaluate(_elements(rows), np.arange(1, holders + 1, dtype=np.uint32), shares)
    return tuple(row.tobytes() for row in shares.astype(">u2"))


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Recover a secret from shares by 0-based holder, using the `threshold` lowest holders. Run by the server.

    Raises:
        ParameterError: too few shares, a holder or the threshold out of range, or shares of unequal or odd length.
    """
    if not 1 <= threshold <= HOLDERS_MAX:
        raise ParameterError(f"shamir: threshold {threshold} is not in 1..{HOLDERS_MAX}")
    if len(shares) < threshold:
        raise ParameterError(f"shamir: {len(shares)} shares, need {threshold}")
    return recover(shares, _kept_weights(tuple(sorted(shares)[:threshold])))


def weights(holders: Sequence[int]) -> Weights:
    """Lagrange's coefficients at zero for exactly these holders, once for all dealers that chose them.

    Raises:
        ParameterError: no holder, a repeated one, or one outside 0..65534.
    """
    if not holders or len(set(holders)) != len(holders):
        raise ParameterError(f"shamir: {len(holders)} holders, {len(set(holders))} of them distinct")
    if min(holders) < 0 or max(holders) >= HOLDERS_MAX:
        raise ParameterError(f"shamir: holders {min(holders)}..{max(holders)} are not in 0..{HOLDERS_MAX - 1}")
    points = np.array(holders, dtype=np.uint32) + np.uint32(1)
    at_zero = np.empty_like(points)
    field.lagrange_at_zero(points, at_zero)
    return Weights(tuple(holders), at_zero)


_kept_weights = lru_cache(256)(weights)  # public; the holders of most dealers are the same


def recover(shares: Mapping[int, bytes], weights: Weights) -> bytes:
    """The secret behind the shares of `weights.holders`; other shares are not looked at. Run by the server.

    Raises:
        ParameterError: one of these holders' shares is missing, or lengths are unequal or odd.
    """
    missing = [holder for holder in weights.holders if holder not in shares]
    if missing:
        raise ParameterError(f"shamir: no share of holder {missing[0]}, {len(missing)} missing in all")
    used = [shares[holder] for holder in weights.holders]
    if len({len(share) for share in used}) != 1:
        raise ParameterError(f"shamir: shares of different lengths, {sorted({len(share) for share in used})} bytes")
    _check_length(len(used[0]))
    secret = np.empty(len(used[0]) // 2, dtype=np.uint32)
    field.weighted_sum(_elements(used), weights.at_zero, secret)
    return secret.astype(">u2").tobytes()


def _elements(rows: Sequence[bytes]) -> Elements:
    return np.frombuffer(b"".join(rows), dtype=">u2").astype(np.uint32).reshape(len(rows), -1)


def _check_length(size: int) -> None:
    if size == 0 or size % 2:
        raise ParameterError(f"shamir: {size} bytes are not a whole, positive number of 16-bit words")
