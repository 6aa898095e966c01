"""Operators' CKKS vectors on their way into a sum: added whole, or refused with the sum as it was."""

from collections.abc import Iterator
from functools import cache
from typing import Final

import numpy as np
import zstandard

from aggregator.crypto.seal_format import ZSTD, _header, vector_values, write_ciphertext
from aggregator.errors import MessageError
from aggregator.protocol.ckks import Total
from tests.ciphertexts import CKKS_LEVEL
from tests.fuzz.target import Target

ENTRIES: Final = 8
HEADER_BYTES: Final = 16


@cache
def _total() -> Total:
    return Total(ENTRIES)


def run(data: bytes) -> None:
    """A vector of eight values as it comes."""
    total = _total()
    total._sums[:] = 5
    try:
        total.add(data, map)
    except MessageError:
        assert (total._sums == 5).all()
        return
    assert vector_values(data) == ENTRIES
    assert (total._sums < total._primes.reshape(1, 1, -1, 1)).all()


def seeds() -> Iterator[bytes]:
    """Vectors whose residues are all zero, all one, and all too large."""
    for residue in (0, 1, 2**63):
        whole = write_ciphertext(np.full(CKKS_LEVEL.shape, residue, np.uint64), CKKS_LEVEL)
        frame = zstandard.ZstdCompressor().compress(whole[HEADER_BYTES:])
        packed = _header(ZSTD, HEADER_BYTES + len(frame)) + frame
        length = bytes([len(packed) & 0x7F | 0x80, len(packed) >> 7])
        yield b"\x0a\x01\x08\x12" + length + packed + b"\x19" + np.array([2.0**40]).tobytes()


TARGET: Final = Target("ckks", run, seeds, share=30)
