"""The one pseudorandom generator: AES-256-CTR under keys derived from a seed, and the masks made of it.

The keystream of (seed, purpose, vector chunk) is a row of PRG chunks of 1 MiB, each with its own key:

    key = HKDF-Expand-SHA256(seed, context || u8 length || purpose || u64 vector chunk || u8 0 || u64 PRG chunk)

and a zero counter block, so that any chunk can be made alone, and no two purposes share a key. It is read as
little-endian words, uint32 for rings of up to 32 bits, uint64 above; the low ring_bits bits count.

Source: NIST SP 800-38A (CTR), RFC 5869 (HKDF); masks as in Bonawitz et al. 2017, Fig. 4, Round 2.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from aggregator.errors import ParameterError
from native import ring
from native.ring import Words

SEED_BYTES = 32
CONTEXT_BYTES = 32
CHUNK_BYTES = 1 << 20
"""Keystream under one derived key."""

PIECE_BYTES = 1 << 17
"""Made and added at once: it stays in the second-level cache."""

_BLOCK_BYTES = 16
_ZEROS = memoryview(bytes(CHUNK_BYTES))
_FROM_ZERO = modes.CTR(bytes(_BLOCK_BYTES))
_SHA256 = SHA256()


@dataclass(frozen=True, slots=True)
class Mask:
    """One keystream to add to a vector (sign +1) or to subtract from it (-1).

    Raises:
        ParameterError: the seed is not 32 bytes, or the sign is neither +1 nor -1.
    """

    seed: bytes = field(repr=False)
    purpose: str
    sign: int

    def __post_init__(self) -> None:
        _check_seed(self.seed)
        if self.sign not in (1, -1):
            raise ParameterError(f"mask: sign {self.sign} is neither +1 nor -1")


def words(seed: bytes, context: bytes, purpose: str, entries: int, ring_bits: int) -> Words:
    """The first `entries` words of a keystream; a new array.

    Args:
        seed: 32 secret bytes (for the public matrix A: the context).
        context: ctx0 or ctx1, 32 bytes.
        purpose: "self", "pair", "rounding" ...; one meaning each.
        entries: how many words.
        ring_bits: 1..64; words are below 2^ring_bits.

    Raises:
        ParameterError: a length or a range above does not hold.
    """
    dtype = _dtype(ring_bits)
    info = _info(context, purpose, 0)
    _check_seed(seed)
    size = _size(entries, dtype)
    room = np.empty(size + _BLOCK_BYTES, dtype=np.uint8)
    view = room.data
    for cipher, start, stop in _runs(seed, info, size, 0, PIECE_BYTES):
        cipher.update_into(_zeros(stop - start), view[start:])
    result: Words = room[:size].view(dtype)
    ring.reduce(result, ring_bits)
    return result


def pieces(
    seed: bytes,
    context: bytes,
    purpose: str,
    entries: int,
    ring_bits: int,
    *,
    piece_entries: int,
    vector_chunk: int = 0,
    first_chunk: int = 0,
) -> Iterator[Words]:
    """The words that `words` gives, `piece_entries` at a time (the last piece may be shorter), for one pass over them.

    Each piece is a view of one buffer, which the next one overwrites: a vector of any length costs one piece of memory,
    and a piece is still in cache when its reader comes. Each is one call without the GIL: where threads share the work,
    small pieces are dear, since one that waits for the GIL sleeps longer than a piece takes. `piece_entries` words
    divide a PRG chunk, as powers of two do, or all words lie in one. `vector_chunk` says which chunk of the vector it
    is, where each has a keystream of its own; `first_chunk` PRG chunks are skipped, and not made.

    Raises:
        ParameterError: at the first piece: as `words`, or pieces of that length do not fit.
    """
    dtype = _dtype(ring_bits)
    info = _info(context, purpose, vector_chunk)
    _check_seed(seed)
    size = _size(entries, dtype)
    at_once = piece_entries * dtype.itemsize
    if not 0 < at_once <= CHUNK_BYTES or (size > CHUNK_BYTES and CHUNK_BYTES % at_once):
        raise ParameterError(f"keystream: pieces of {piece_entries} words do not divide PRG chunks")
    room = np.empty(at_once + _BLOCK_BYTES, dtype=np.uint8)
    out = room.data
    for cipher, start, stop in _runs(seed, info, size, first_chunk, at_once):
        cipher.update_into(_zeros(stop - start), out)
        piece: Words = room[: stop - start].view(dtype)
        ring.reduce(piece, ring_bits)
        yield piece


def apply_masks(vector: Words, masks: Sequence[Mask], context: bytes, ring_bits: int) -> None:
    """Add every mask to `vector` in place, mod 2^ring_bits.

    The vector is walked once, all masks over each piece: vector-after-vector addition costs 1.6 times its keystream,
    this about 1.2 times.

    Raises:
        ParameterError: `vector` is not one contiguous row of that ring's dtype, or a length or range is wrong.
    """
    if vector.dtype != _dtype(ring_bits) or vector.ndim != 1 or not vector.flags.carray:
        raise ParameterError(f"masks: {ring_bits} bits need a contiguous, writable vector of {_dtype(ring_bits)}")
    infos = {purpose: _info(context, purpose, 0) for purpose in {mask.purpose for mask in masks}}
    operations = [ring.add if mask.sign == 1 else ring.subtract for mask in masks]
    room = np.empty(min(vector.nbytes, PIECE_BYTES) + _BLOCK_BYTES, dtype=np.uint8)
    out = room.data
    for chunk, start, stop in _chunks(vector.nbytes, 0):
        named = {purpose: _chunk_info(info, chunk) for purpose, info in infos.items()}
        ciphers = [_open(mask.seed, named[mask.purpose]) for mask in masks]
        for at in range(start, stop, PIECE_BYTES):
            size = min(PIECE_BYTES, stop - at)
            zeros, keystream = _zeros(size), room[:size].view(vector.dtype)
            piece = vector[at // vector.itemsize : (at + size) // vector.itemsize]
            for cipher, operation in zip(ciphers, operations, strict=True):
                cipher.update_into(zeros, out)
                operation(piece, keystream)
    ring.reduce(vector, ring_bits)


def _runs(
    seed: bytes, info: bytes, size: int, first_chunk: int, at_once: int
) -> Iterator[tuple[CipherContext, int, int]]:
    """(cipher, start, stop) of each run of up to `at_once` bytes; the cipher stands at its start."""
    for chunk, first, end in _chunks(size, first_chunk):
        cipher = _open(seed, _chunk_info(info, chunk))
        for start in range(first, end, at_once):
            yield cipher, start, min(start + at_once, end)


def _size(entries: int, dtype: np.dtype[np.unsignedinteger[Any]]) -> int:
    """Bytes of that many words."""
    if entries < 0:
        raise ParameterError(f"keystream: {entries} entries")
    return entries * dtype.itemsize


def _info(context: bytes, purpose: str, vector_chunk: int) -> bytes:
    """What names a keystream, beside its seed and the number of the PRG chunk."""
    if len(context) != CONTEXT_BYTES:
        raise ParameterError(f"keystream: a context of {len(context)} bytes, not {CONTEXT_BYTES}")
    try:
        name = purpose.encode("ascii")
        return context + bytes([len(name)]) + name + struct.pack(">QB", vector_chunk, 0)
    except (struct.error, ValueError):
        raise ParameterError("keystream: purpose or vector chunk out of range") from None


def _chunk_info(info: bytes, chunk: int) -> bytes:
    return info + struct.pack(">Q", chunk)


def _open(seed: bytes, info: bytes) -> CipherContext:
    """The cipher of one PRG chunk, at its start."""
    key = HKDFExpand(_SHA256, 32, info).derive(seed)
    return Cipher(algorithms.AES256(key), _FROM_ZERO).encryptor()


def _chunks(size: int, first_chunk: int) -> Iterator[tuple[int, int, int]]:
    """(PRG chunk, start, stop) of each chunk's bytes in a vector of `size` bytes."""
    if first_chunk < 0:
        raise ParameterError(f"keystream: PRG chunk {first_chunk}")
    for start in range(0, size, CHUNK_BYTES):
        yield first_chunk + start // CHUNK_BYTES, start, min(start + CHUNK_BYTES, size)


def _zeros(size: int) -> memoryview:
    return _ZEROS[:size]


def _dtype(ring_bits: int) -> np.dtype[np.unsignedinteger[Any]]:
    try:
        return ring.word_dtype(ring_bits)
    except ValueError as error:
        raise ParameterError(str(error)) from None


def _check_seed(seed: bytes) -> None:
    if len(seed) != SEED_BYTES:
        raise ParameterError(f"keystream: a seed of {len(seed)} bytes, not {SEED_BYTES}")
