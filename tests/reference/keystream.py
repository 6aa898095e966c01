"""The PRG: AES-256-CTR, zero IV, a key of its own for every MiB."""

import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.reference import hkdf

CHUNK_BYTES = 1 << 20


def chunk_key(seed: bytes, context: bytes, purpose: str, vector_chunk: int, prime_index: int, prg_chunk: int) -> bytes:
    name = purpose.encode("ascii")
    info = context + bytes([len(name)]) + name + struct.pack(">QBQ", vector_chunk, prime_index, prg_chunk)
    return hkdf.expand(seed, info, 32)


def stream(seed: bytes, context: bytes, purpose: str, count: int, vector_chunk: int = 0, prime_index: int = 0) -> bytes:
    """The first `count` bytes."""
    out = b""
    while len(out) < count:
        key = chunk_key(seed, context, purpose, vector_chunk, prime_index, len(out) // CHUNK_BYTES)
        cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        out += cipher.update(bytes(min(CHUNK_BYTES, count - len(out))))
    return out


def words(
    seed: bytes,
    context: bytes,
    purpose: str,
    count: int,
    ring_bits: int,
    vector_chunk: int = 0,
    prime_index: int = 0,
) -> list[int]:
    """`count` ring elements: the low bits of little-endian u32, or u64 above 32 bits."""
    size = 4 if ring_bits <= 32 else 8
    raw = stream(seed, context, purpose, count * size, vector_chunk, prime_index)
    return [int.from_bytes(raw[i : i + size], "little") % 2**ring_bits for i in range(0, count * size, size)]


def draws(seed: bytes, context: bytes, count: int, vector_chunk: int = 0) -> list[int]:
    """The u64 draws that stochastic rounding takes."""
    return words(seed, context, "rounding", count, 64, vector_chunk)
