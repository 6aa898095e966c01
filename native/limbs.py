"""Residues modulo several primes: sums, and messages of many slots put into them and taken out again.

A ciphertext is uint32[primes, coefficients], row j modulo primes[j], every value below its prime. A message coefficient
holds one entry per slot, least significant slot first, and entries lie slot by slot (slot-major):

    m_i = Σ_k words[k·stride + i] · 2^(k·slot_bits)        stride: the coefficients in use, entries / slots or more

Products (native.shoup) take any 32-bit word without a reduction before it, so a message of 79 bits no big integer.

Source: Garner 1959 for the mixed radix.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from native._jit import inlined, kernel
from native.ring import Words, word_dtype
from native.shoup import below, product

Residues = NDArray[np.uint32]

_READ_ONLY = "Array(uint32, 2, 'C', readonly=True)"
_BLOCKS = "Array(uint32, 3, 'C', readonly=True)"
_ROW = "Array(uint32, 1, 'C', readonly=True)"
_PIECE = 512
"""Coefficients decoded at once: their 128-bit values stay in the first-level cache."""


@kernel(f"void(uint32[:, ::1], {_READ_ONLY}, {_ROW})")
def add(total: Residues, values: Residues, primes: Residues) -> None:
    """Compute total = (total + values) mod primes in place, a row per prime; all below their primes, these up to 2^31.

    Raises:
        ValueError: the shapes do not fit.
    """
    if total.shape != values.shape or total.shape[0] != primes.shape[0]:
        raise ValueError("limbs.add: shapes do not fit")
    for j in range(total.shape[0]):
        sums, row, prime = total[j], values[j], primes[j]
        for i in range(sums.shape[0]):
            sums[i] = below(np.uint32(sums[i] + row[i]), prime)


@kernel(f"void(uint32[:, :, ::1], {_BLOCKS}, {_ROW})")
def subtract(total: Residues, values: Residues, primes: Residues) -> None:
    """Compute total = (total - values) mod primes in place, [blocks, primes, coefficients]; all below their primes.

    Raises:
        ValueError: the shapes do not fit.
    """
    count = primes.shape[0]
    if total.shape != values.shape or total.shape[1] != count:
        raise ValueError("limbs.subtract: shapes do not fit")
    for place in range(total.shape[0] * count):
        block, j = place // count, place % count
        sums, row, prime = total[block, j], values[block, j], primes[j]
        for i in range(sums.shape[0]):
            difference = np.uint32(sums[i] - row[i])
            sums[i] = min(difference, np.uint32(difference + prime))


@kernel(f"void(Array(int32, 1, 'C', readonly=True), uint32[:, ::1], {_ROW})")
def lift(values: NDArray[np.int32], out: Residues, primes: Residues) -> None:
    """Write small integers of either sign as residues, out[j] = values mod primes[j]; of magnitude below every prime.

    Raises:
        ValueError: the shapes do not fit.
    """
    if out.shape != (primes.shape[0], values.shape[0]):
        raise ValueError("limbs.lift: shapes do not fit")
    for j in range(out.shape[0]):
        row, prime = out[j], primes[j]
        for i in range(row.shape[0]):
            row[i] = below(np.uint32(np.uint32(values[i]) + prime), prime)  # in (0, 2q) before, whatever the sign


@dataclass(frozen=True, slots=True)
class Slots:
    """How entries lie in a coefficient, and the constants that follow: public, computed once per parameter set.

    T = 2^message_bits; a pair of constants is (c, floor(c·2^32 / q)); all arrays are read-only.
    """

    primes: tuple[int, int, int]
    slot_bits: int
    slots: int
    message_bits: int
    moduli: Residues = field(repr=False, compare=False)
    """[3]: the primes as an array."""
    scales: Residues = field(repr=False, compare=False)
    """[3, 1 + limbs, 2]: T mod q, then 2^(position of a 32-bit limb) mod q; slots of more than 32 bits have two."""
    inverses: Residues = field(repr=False, compare=False)
    """[3, 2]: 1/q0 mod q1, 1/q0 mod q2, 1/q1 mod q2."""
    half: NDArray[np.uint64] = field(repr=False, compare=False)
    """[2]: (Q - 1)/2, low word first."""

    @classmethod
    def of(cls, primes: Sequence[int], slot_bits: int, slots: int, message_bits: int) -> "Slots":
        """The layout of `slots` slots of `slot_bits` bits in messages modulo 2^message_bits.

        Raises:
            ValueError: not three coprime odd numbers below 2^30 and within a factor of two of each other, slot_bits not
                in 1..64, or messages that do not hold the slots, or that Q does not hold twice.
        """
        if len(primes) != 3 or not all(2 < q < 2**30 and q % 2 for q in primes) or max(primes) > 2 * min(primes):
            raise ValueError("limbs: needs three primes of at most 30 bits, of one size")
        if not 1 <= slot_bits <= 64 or slots < 1 or slots * slot_bits > message_bits:
            raise ValueError(f"limbs: {slots} slots of {slot_bits} bits do not fit {message_bits} bits")
        q0, q1, q2 = primes
        if 2 ** (message_bits + 1) > q0 * q1 * q2:
            raise ValueError(f"limbs: messages of {message_bits} bits are too long for these primes")
        positions = [message_bits, *(k * slot_bits + at for k in range(slots) for at in range(0, slot_bits, 32))]
        half = q0 * q1 * q2 // 2
        return cls(
            primes=(q0, q1, q2),
            slot_bits=slot_bits,
            slots=slots,
            message_bits=message_bits,
            moduli=_constant(primes),
            scales=_constant([[_pair(2**at, q) for at in positions] for q in primes]),
            inverses=_constant([_pair(pow(a, -1, b), b) for a, b in ((q0, q1), (q0, q2), (q1, q2))]),
            half=_constant([half % 2**64, half >> 64], np.uint64),
        )


def _pair(constant: int, prime: int) -> tuple[int, int]:
    return constant % prime, (constant % prime << 32) // prime


def _constant(values: Sequence[Any], dtype: type = np.uint32) -> NDArray[Any]:
    array: NDArray[Any] = np.array(values, dtype=dtype)
    array.flags.writeable = False
    return array


def add_message(residues: Residues, errors: NDArray[np.int32], words: Words, layout: Slots) -> None:
    """Compute residues += T·e + m in place; run by the client, on A·s of several blocks.

    Time depends on shapes only.

    Args:
        residues: [blocks, 3, stride], below their primes; secret until then.
        errors: [blocks, at least stride], of magnitude below every prime; those from stride on are not used.
        words: [entries], each below 2^slot_bits; uint32 for slots of up to 32 bits, else uint64.
        layout: the slots. Each block has stride · slots entries; a single one may have fewer, and then the positions
            behind the last entry count as zero.

    Raises:
        ValueError: the shapes do not fit, or words have the other dtype.
    """
    _check_dtype(words, layout)
    _add_message(residues, errors, words, layout.moduli, layout.scales)


def recover(residues: Residues, out: Words, layout: Slots) -> None:
    """Take the entries out of Σ T·e + m of several blocks; run by the server, on the decrypted sum.

    Exact while T·(|e| + 1) ≤ Q/2 and no slot's sum reaches 2^slot_bits.

    Args:
        residues: [blocks, 3, stride], below their primes.
        out: [entries] to fill, uint32 for slots of up to 32 bits, else uint64; as many as in `add_message`.
        layout: the slots.

    Raises:
        ValueError: the shapes do not fit, or `out` has the other dtype.
    """
    _check_dtype(out, layout)
    _recover(residues, out, (layout.slot_bits, layout.slots), layout.moduli, (layout.inverses, layout.half))


def _check_dtype(words: Words, layout: Slots) -> None:
    if words.dtype != word_dtype(layout.slot_bits):
        raise ValueError(f"slots of {layout.slot_bits} bits come as {word_dtype(layout.slot_bits)}, not {words.dtype}")


_ERRORS = "Array(int32, 2, 'C', readonly=True)"
_LONG_ROW = "Array(uint64, 1, 'C', readonly=True)"


@inlined
def _fits(blocks: int, stride: int, slots: int, entries: int) -> bool:
    """Whether that many entries fill the blocks: all of them, or a single block in part."""
    return entries == blocks * stride * slots or (blocks == 1 and 0 < entries < stride * slots)


@kernel(
    f"void(uint32[:, :, ::1], {_ERRORS}, {_ROW}, {_ROW}, {_BLOCKS})",
    f"void(uint32[:, :, ::1], {_ERRORS}, {_LONG_ROW}, {_ROW}, {_BLOCKS})",
)
def _add_message(
    residues: Residues, errors: NDArray[np.int32], words: Words, moduli: Residues, scales: Residues
) -> None:
    """One pass over a row per limb; the row stays in the first-level cache and in [0, 2q) until its last pass."""
    blocks, primes, stride = residues.shape
    entries, halves = words.shape[0], words.itemsize // 4
    slots = (scales.shape[1] - 1) // halves
    if primes != moduli.shape[0] or errors.shape[0] != blocks or errors.shape[1] < stride:
        raise ValueError("limbs.add_message: shapes do not fit")
    if not _fits(blocks, stride, slots, entries):
        raise ValueError("limbs.add_message: shapes do not fit")
    for place in range(blocks * primes):
        block, j = place // primes, place % primes
        row, prime, first = residues[block, j], moduli[j], block * stride * slots
        twice = np.uint32(prime + prime)
        for k in range(slots):
            part = words[min(entries, first + k * stride) : min(entries, first + (k + 1) * stride)]
            for half in range(halves):
                limb_scale = scales[j, 1 + k * halves + half]
                constant, quotient = limb_scale[0], limb_scale[1]
                shift = np.uint64(32 * half)
                for i in range(part.shape[0]):
                    limb = np.uint32(np.uint64(part[i]) >> shift)
                    row[i] = below(np.uint32(row[i] + product(limb, constant, quotient, prime)), twice)
        constant, quotient = scales[j, 0, 0], scales[j, 0, 1]
        for i in range(stride):
            lifted = np.uint32(np.uint32(errors[block, i]) + prime)  # in (0, 2q), whatever the sign
            row[i] = below(np.uint32(row[i] + product(lifted, constant, quotient, prime)), twice)
            row[i] = below(row[i], prime)


@inlined
def _centred(rows: Any, moduli: Any, garner: Any, low: Any, high: Any) -> None:
    """The numbers in ((1 - Q)/2 .. (Q - 1)/2) with these residues, modulo 2^128, as two words each.

    With h = (Q - 1)/2 added (h = (q - 1)/2 mod each q) they are in [0, Q), v = a + q0·(b + q1·c); h comes off at the
    end. A difference of residues is lifted by 2q: the primes lie within a factor of two. Rows come apart, since LLVM
    does not vectorise over columns of a slice: 1.4 ns per coefficient instead of 5.8.
    """
    row0, row1, row2 = rows
    inverses, half = garner
    q0, q1, q2 = moduli[0], moduli[1], moduli[2]
    for i in range(row0.shape[0]):
        a = below(np.uint32(row0[i] + (q0 >> np.uint32(1))), q0)
        x = below(np.uint32(row1[i] + (q1 >> np.uint32(1))), q1)
        y = below(np.uint32(row2[i] + (q2 >> np.uint32(1))), q2)
        b = below(product(np.uint32(x - a + q1 + q1), inverses[0, 0], inverses[0, 1], q1), q1)
        y = product(np.uint32(y - a + q2 + q2), inverses[1, 0], inverses[1, 1], q2)
        c = below(product(np.uint32(y - b + q2 + q2), inverses[2, 0], inverses[2, 1], q2), q2)
        upper = np.uint64(b) + np.uint64(q1) * np.uint64(c)
        bottom = np.uint64(a) + np.uint64(q0) * (upper & np.uint64(0xFFFFFFFF))
        middle = (bottom >> np.uint64(32)) + np.uint64(q0) * (upper >> np.uint64(32))
        value = (middle << np.uint64(32)) | (bottom & np.uint64(0xFFFFFFFF))
        low[i] = value - half[0]
        high[i] = (middle >> np.uint64(32)) - half[1] - np.uint64(value < half[0])


_GARNER = f"Tuple(({_READ_ONLY}, {_LONG_ROW}))"


@kernel(
    f"void({_BLOCKS}, uint32[::1], UniTuple(int64, 2), {_ROW}, {_GARNER})",
    f"void({_BLOCKS}, uint64[::1], UniTuple(int64, 2), {_ROW}, {_GARNER})",
)
def _recover(
    residues: Residues,
    out: Words,
    shape: tuple[int, int],
    moduli: Residues,
    garner: tuple[Residues, NDArray[np.uint64]],
) -> None:
    """Pieces of values as two words each, then slot after slot of the piece.

    T is a power of two and divides 2^128, so the low bits of the centred value are the message: no reduction, no mask.
    """
    slot_bits, slots = shape
    blocks, primes, stride = residues.shape
    entries, pieces = out.shape[0], (stride + _PIECE - 1) // _PIECE
    if primes != 3 or not _fits(blocks, stride, slots, entries):
        raise ValueError("limbs.recover: shapes do not fit")
    low, high = np.empty(_PIECE, np.uint64), np.empty(_PIECE, np.uint64)
    mask = ~np.uint64(0) >> np.uint64(64 - slot_bits)
    for piece in range(blocks * pieces):
        block, start = piece // pieces, piece % pieces * _PIECE
        stop = min(stride, start + _PIECE)
        rows = residues[block, 0, start:stop], residues[block, 1, start:stop], residues[block, 2, start:stop]
        _centred(rows, moduli, garner, low, high)
        for k in range(slots):
            position = k * slot_bits
            # Bits beyond the 128th would be needed for no slot, so `high` may stand in for them: the mask drops it.
            source = low if position < 64 else high
            shift = np.uint64(position % 64)
            first = (block * slots + k) * stride + start
            part = out[min(entries, first) : min(entries, first + stop - start)]
            for i in range(part.shape[0]):
                carried = (high[i] << np.uint64(1)) << (np.uint64(63) - shift)
                part[i] = ((source[i] >> shift) | carried) & mask
