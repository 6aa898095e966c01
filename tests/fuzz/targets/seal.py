"""Ciphertexts and vectors in SEAL's and TenSEAL's bytes, of every level that we read."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import zstandard

from aggregator.crypto.seal_format import (
    ZSTD,
    Held,
    Level,
    _header,
    find_ciphertexts,
    read_ciphertext,
    vector_values,
    write_ciphertext,
)
from aggregator.errors import MessageError
from tests.ciphertexts import BFV, BFV_LEVEL, CKKS_LEVEL
from tests.fuzz.draws import tiled
from tests.fuzz.target import Target

LEVELS: Final = (BFV_LEVEL, CKKS_LEVEL, Level.of_public_keys(BFV))
HEADER_BYTES: Final = 16
VECTOR, STRETCHED = 1, 2


def run(data: bytes) -> None:
    """The first byte: the level; the second: a vector, a ciphertext, or one whose residues are repeated to its size."""
    level, how, data = LEVELS[(data[:1] or b"\0")[0] % len(LEVELS)], data[1:2], data[2:]
    if how == bytes([VECTOR]):
        _read_vector(data, level)
        return
    if how == bytes([STRETCHED]):
        start = HEADER_BYTES + len(level.head)
        data = data[:start] + tiled(data[start:], level.ciphertext_bytes - start)
    try:
        residues = read_ciphertext(data, level)
    except MessageError:
        return
    assert residues.shape == level.shape
    assert np.array_equal(read_ciphertext(write_ciphertext(residues, level), level), residues)


def _read_vector(data: bytes, level: Level) -> None:
    try:
        values = vector_values(data)
        assert 0 <= values < 2**63 * len(data)
        places = find_ciphertexts(Held(memoryview(data)), len(data), [values], level)
    except MessageError:
        return
    assert all(0 < place.start <= place.stop <= len(data) for place in places)


def seeds() -> Iterator[bytes]:
    """Ciphertexts of zeros: as they are, cut to be stretched, and as zstd frames; and vectors of one."""
    for number, level in enumerate(LEVELS):
        whole = write_ciphertext(np.zeros(level.shape, np.uint64), level)
        frame = zstandard.ZstdCompressor().compress(whole[HEADER_BYTES:])
        packed = _header(ZSTD, HEADER_BYTES + len(frame)) + frame
        yield bytes([number, STRETCHED]) + whole[: HEADER_BYTES + len(level.head) + 8]
        yield bytes([number, 0]) + packed
        sizes = b"\x0a\x01\x03\x12" + bytes([len(packed) & 0x7F | 0x80, len(packed) >> 7])
        end = b"" if level is not CKKS_LEVEL else np.array([0x19], np.uint8).tobytes() + np.array([2.0**40]).tobytes()
        yield bytes([number, VECTOR]) + sizes + packed + end


TARGET: Final = Target("seal", run, seeds, share=60)
