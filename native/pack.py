"""b-bit words to bytes and back: a little-endian bit stream, least significant bit first, without gaps.

Word i occupies bits [i·b, (i + 1)·b) of the string; bit j of the string is bit (j mod 8) of byte j // 8; the last byte
is filled with zero bits. Words of 8, 16, 32 and 64 bits are thus plain little-endian integers. b is 1..64; uint32 holds
words of up to 32 bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from native._jit import kernel
from native.ring import Words


def packed_bytes(entries: int, bits: int) -> int:
    """The length of `entries` words of `bits` bits, in bytes.

    Raises:
        ValueError: bits is not in 1..64, or entries is negative.
    """
    if not 1 <= bits <= 64 or entries < 0:
        raise ValueError(f"cannot pack {entries} words of {bits} bits")
    return (entries * bits + 7) // 8


def pack(values: Words, bits: int) -> NDArray[np.uint8]:
    """The low `bits` bits of each word, as packed_bytes(len(values), bits) bytes.

    Raises:
        ValueError: bits is not in 1..64, or more than the dtype holds.
    """
    size = packed_bytes(len(values), bits)
    _check_dtype(values, bits)
    if bits == 8 * values.itemsize:
        return values.view(np.uint8).copy()
    stream = np.zeros((size + 7) // 8, dtype=np.uint64)
    _pack(values, bits, stream)
    return stream.view(np.uint8)[:size]


def unpack(data: NDArray[np.uint8], bits: int, out: Words) -> None:
    """Fill `out` with the words of `data`, which may be read-only and need no alignment.

    The filling of the last byte is not looked at: see `padding_is_zero`.

    Raises:
        ValueError: data is not packed_bytes(len(out), bits) long, bits is not in 1..64, or more than the dtype holds.
    """
    _check_length(data, len(out), bits)
    _check_dtype(out, bits)
    if bits == 8 * out.itemsize:
        out.view(np.uint8)[:] = data
    else:
        _unpack(data, bits, out)


def padding_is_zero(data: NDArray[np.uint8], entries: int, bits: int) -> bool:
    """Whether the bits behind the last word are zero, so that one vector has one encoding.

    Raises:
        ValueError: data is not packed_bytes(entries, bits) long, or bits is not in 1..64.
    """
    _check_length(data, entries, bits)
    used = entries * bits % 8
    return used == 0 or int(data[-1]) >> used == 0


def _check_length(data: NDArray[np.uint8], entries: int, bits: int) -> None:
    if len(data) != packed_bytes(entries, bits):
        raise ValueError(f"{entries} words of {bits} bits are {packed_bytes(entries, bits)} bytes, not {len(data)}")


def _check_dtype(words: Words, bits: int) -> None:
    if bits > 8 * words.itemsize:
        raise ValueError(f"{words.dtype} does not hold words of {bits} bits")


@kernel(
    "void(Array(uint32, 1, 'C', readonly=True), uint64, uint64[::1])",
    "void(Array(uint64, 1, 'C', readonly=True), uint64, uint64[::1])",
)
def _pack(values: Words, bits: Any, stream: NDArray[np.uint64]) -> None:
    """Collect words in a 64-bit accumulator; `stream` has a word for every 64 bits, the last one perhaps partial."""
    mask = ~np.uint64(0) >> (np.uint64(64) - bits)
    gathered, filled, k = np.uint64(0), np.uint64(0), 0
    for i in range(values.shape[0]):
        word = np.uint64(values[i]) & mask
        gathered |= word << filled
        filled += bits
        if filled >= np.uint64(64):
            stream[k] = gathered
            k += 1
            filled -= np.uint64(64)
            # What did not fit; two shifts, since a shift by 64 is undefined.
            gathered = (word >> np.uint64(1)) >> (bits - filled - np.uint64(1))
    if filled > np.uint64(0):
        stream[k] = gathered


@kernel(
    "void(Array(uint8, 1, 'C', readonly=True), uint64, uint32[::1])",
    "void(Array(uint8, 1, 'C', readonly=True), uint64, uint64[::1])",
)
def _unpack(data: NDArray[np.uint8], bits: Any, out: Words) -> None:
    """Nine bytes hold any word: eight loaded at once (LLVM merges them), and one more for the bits shifted out."""
    mask = ~np.uint64(0) >> (np.uint64(64) - bits)
    near_the_end = max(0, out.shape[0] - (72 // np.int64(bits) + 1))
    for i in range(near_the_end):
        position = np.uint64(i) * bits
        at, shift = np.int64(position >> np.uint64(3)), position & np.uint64(7)
        low = np.uint64(0)
        for b in range(8):
            low |= np.uint64(data[at + b]) << np.uint64(8 * b)
        high = np.uint64(data[at + 8]) << np.uint64(1)
        out[i] = ((low >> shift) | (high << (np.uint64(63) - shift))) & mask
    for i in range(near_the_end, out.shape[0]):
        position = np.uint64(i) * bits
        at, shift = np.int64(position >> np.uint64(3)), position & np.uint64(7)
        low, high = np.uint64(0), np.uint64(0)
        for b in range(min(8, data.shape[0] - at)):
            low |= np.uint64(data[at + b]) << np.uint64(8 * b)
        if at + 8 < data.shape[0]:
            high = np.uint64(data[at + 8]) << np.uint64(1)
        out[i] = ((low >> shift) | (high << (np.uint64(63) - shift))) & mask
