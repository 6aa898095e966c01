"""Slots to polynomials and back to residues: how BFV holds a vector in the values of a polynomial modulo a prime t.

A block of n slots is the polynomial m mod (X^n + 1, t) with m(ψ^(3^i)) = slot i and m(ψ^(-3^i)) = slot n/2 + i for
i < n/2, ψ the smallest primitive 2n-th root of one: SEAL's order, so that whoever decrypts with it reads the slots in
their order. A slot holds several entries, least significant first, entry k·n + i of a block in slot i:

    slot_i = Σ_k words[k·n + i] · 2^(k·digit_bits)

What a ciphertext carries is round(Q·m / t). With u = Q·m mod t that number is (Q·m - u)/t, plus one where u > t/2, and
modulo a prime of Q it is -u/t plus that one: no number is longer than a word, and Q rides along with 1/n in the last
step of the transform.

t is below 2^60: values stay below 4t. Nothing branches on a value or divides by one: they may be secret.

Source: D. Harvey, Faster arithmetic for number-theoretic transforms, 2014; Smart and Vercauteren 2014 (eprint 2011/133)
for slots; the order of slots as in Microsoft SEAL's BatchEncoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from native._jit import inlined, kernel
from native.ring import Words
from native.shoup import below, product

MODULUS_LIMIT = 2**60
"""Plain moduli lie below it, so that 4t fits a word."""

Longs = NDArray[np.uint64]
Residues = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """What blocks of n slots modulo t need, all public; made by `Slots.of`. All arrays are read-only.

    places: int64[n], where the transform takes the value of each slot. roots: uint64[2, n], powers of 1/ψ in
    bit-reversed order and their quotients floor(root · 2^64 / t); entry 0 has Q/n, and entry 1 has that factor too.
    scales: uint32[primes, 2, 2], -1/t and -2^32/t mod each prime of Q, and their quotients.
    """

    modulus: int
    digit_bits: int
    digits: int
    places: NDArray[np.int64] = field(repr=False)
    roots: Longs = field(repr=False)
    moduli: Residues = field(repr=False)
    scales: Residues = field(repr=False)

    @classmethod
    def of(cls, modulus: int, root: int, primes: Sequence[int], size: int, digits: tuple[int, int]) -> "Slots":
        """The tables for n = size slots modulo t, scaled to ciphertexts modulo Q.

        Args:
            modulus: t.
            root: ψ.
            primes: of Q.
            size: n.
            digits: how many entries a slot holds, and the bits of each.

        Raises:
            ValueError: size is no power of two of at least 4, ψ^n is not -1 mod t, t is even or not below 2^60, a prime
                is not below 2^30 or divides t, or that many digits are not in 1..60 bits.
        """
        if size < 4 or size & (size - 1) or min(digits) < 1 or digits[0] * digits[1] > 60:
            raise ValueError(f"batching: no blocks of {size} slots with {digits[0]} digits of {digits[1]} bits")
        if not 2 < modulus < MODULUS_LIMIT or modulus % 2 == 0 or pow(root, size, modulus) != modulus - 1:
            raise ValueError(f"batching: {root} is no root of order {2 * size} modulo {modulus}")
        if not primes or not all(2 < prime < 2**30 and modulus % prime for prime in primes):
            raise ValueError("batching: primes lie below 2^30 and do not divide the modulus")
        scaled = pow(size, -1, modulus)
        for prime in primes:
            scaled = scaled * prime % modulus
        inverse, bits = pow(root, -1, modulus), size.bit_length() - 1
        powers = [pow(inverse, _reversed(k, bits), modulus) for k in range(size)]
        powers[:2] = [scaled, powers[1] * scaled % modulus]
        minus = [[(-(2**shift) * pow(modulus, -1, q)) % q for shift in (0, 32)] for q in primes]
        return cls(
            modulus=modulus,
            digits=digits[0],
            digit_bits=digits[1],
            places=_constant(_places(size), np.int64),
            roots=_constant([powers, [(power << 64) // modulus for power in powers]], np.uint64),
            moduli=_constant(primes, np.uint32),
            scales=_constant(
                [[(c, (c << 32) // q) for c in pair] for pair, q in zip(minus, primes, strict=True)], np.uint32
            ),
        )

    @property
    def block_entries(self) -> int:
        """Entries of one block."""
        return self.digits * len(self.places)


def _places(size: int) -> list[int]:
    """Entry j of a transform is the value at ψ^(2·rev(j) + 1): where slot 0, 1 ... of a block belong."""
    bits, power, half = size.bit_length() - 1, 1, size // 2
    places = [0] * size
    for i in range(half):
        places[i] = _reversed((power - 1) // 2, bits)
        places[half + i] = _reversed((2 * size - power - 1) // 2, bits)
        power = power * 3 % (2 * size)
    return places


def _reversed(value: int, bits: int) -> int:
    return int(f"{value:0{bits}b}"[::-1], 2)


def _constant(values: Sequence[Any], dtype: Any) -> NDArray[Any]:
    array: NDArray[Any] = np.array(values, dtype=dtype)
    array.flags.writeable = False
    return array


def encode(words: Words, out: Longs, slots: Slots) -> None:
    """Turn a block of entries into u = Q·m mod t, coefficient by coefficient. Run by the client.

    Args:
        words: [entries], uint32 or uint64, each below 2^digit_bits; positions behind the last one count as zero. The
            numbers that they make in a slot lie below t.
        out: [n] to fill; secret.
        slots: the tables of this block's size.

    Raises:
        ValueError: `out` is not of that size, or a slot does not hold so many entries.
    """
    encode_kernel(words, out, (np.uint64(slots.modulus), np.uint64(slots.digit_bits)), slots.places, slots.roots)


def add_message(residues: Residues, errors: NDArray[np.int32], scaled: Longs, slots: Slots) -> None:
    """Compute residues += e + round(Q·m / t) in place. Run by the client, on b·u of one block.

    Args:
        residues: [primes, n], below their primes.
        errors: [n], of magnitude below every prime.
        scaled: [n], u as `encode` made it.
        slots: the tables.

    Raises:
        ValueError: the shapes do not fit.
    """
    add_message_kernel(residues, errors, scaled, np.uint64(slots.modulus), (slots.moduli, slots.scales))


def decode(values: Longs, out: Words, digits: tuple[int, int], most: int) -> bool:
    """Take the entries out of the slots of one block. Run by the key holder, on the sum.

    Args:
        values: [n], the slots.
        out: [entries] to fill, uint32 or uint64.
        digits: how many entries a slot holds, and the bits of each.
        most: what no entry exceeds.

    Returns:
        Whether none does, and nothing but zeros lies behind the last entry and above the last digit.

    Raises:
        ValueError: that many digits are not in 1..60 bits, or the slots do not hold so many entries.
    """
    if min(digits) < 1 or digits[0] * digits[1] > 60 or len(out) > digits[0] * len(values):
        raise ValueError(f"batching.decode: {len(values)} slots with {digits[0]} digits of {digits[1]} bits")
    return _decode(values, out, (np.uint64(digits[0]), np.uint64(digits[1])), np.uint64(most))


@inlined
def _high(a: Any, b: Any) -> Any:
    """The upper word of a product: four products of halves, which LLVM vectorises, as it does not 64 by 64 bits."""
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    a0, a1, b0, b1 = a & low, a >> shift, b & low, b >> shift
    middle = a1 * b0 + ((a0 * b0) >> shift)
    other = a0 * b1 + (middle & low)
    return a1 * b1 + (middle >> shift) + (other >> shift)


@inlined
def _product(value: Any, factor: Any, quotient: Any, modulus: Any) -> Any:
    """value · factor mod t, or that plus t: for any word and a factor below t."""
    return value * factor - _high(value, quotient) * modulus


@kernel(
    "void(Array(uint32, 1, 'C', readonly=True), uint64[::1], UniTuple(uint64, 2), "
    "Array(int64, 1, 'C', readonly=True), Array(uint64, 2, 'C', readonly=True))",
    "void(Array(uint64, 1, 'C', readonly=True), uint64[::1], UniTuple(uint64, 2), "
    "Array(int64, 1, 'C', readonly=True), Array(uint64, 2, 'C', readonly=True))",
)
def encode_kernel(words: Words, out: Longs, shape: Any, places: NDArray[np.int64], roots: Longs) -> None:
    """The kernel of `encode`, for kernels that encode; shape = (t, bits of a digit)."""
    modulus, digit_bits = shape
    size, entries = out.shape[0], words.shape[0]
    digits = (entries + size - 1) // size
    if places.shape[0] != size or roots.shape != (2, size) or digits * np.int64(digit_bits) > 60:
        raise ValueError("batching.encode: shapes do not fit")
    twice = modulus + modulus
    slots = np.zeros(size, np.uint64)
    for k in range(digits):
        shift = np.uint64(k) * digit_bits
        part = words[k * size : min(entries, (k + 1) * size)]
        for i in range(part.shape[0]):
            slots[i] |= np.uint64(part[i]) << shift
    for i in range(size):
        out[places[i]] = slots[i]
    m = size // 2
    while m > 1:
        pairs = out.reshape((m, 2, size // (2 * m)))
        for block in range(m):
            x, y, root, quotient = pairs[block, 0], pairs[block, 1], roots[0, m + block], roots[1, m + block]
            for i in range(x.shape[0]):
                total, difference = x[i] + y[i], x[i] - y[i] + twice
                x[i] = min(total, total - twice)
                y[i] = _product(difference, root, quotient, modulus)
        m //= 2
    half = size // 2
    for i in range(half):
        total, difference = out[i] + out[half + i], out[i] - out[half + i] + twice
        x = _product(total, roots[0, 0], roots[1, 0], modulus)
        y = _product(difference, roots[0, 1], roots[1, 1], modulus)
        out[i], out[half + i] = min(x, x - modulus), min(y, y - modulus)


@kernel(
    "void(uint32[:, ::1], Array(int32, 1, 'C', readonly=True), Array(uint64, 1, 'C', readonly=True), uint64, "
    "Tuple((Array(uint32, 1, 'C', readonly=True), Array(uint32, 3, 'C', readonly=True))))"
)
def add_message_kernel(
    residues: Residues, errors: NDArray[np.int32], scaled: Longs, modulus: Any, primes_and_scales: Any
) -> None:
    """The kernel of `add_message`, for kernels that encrypt."""
    moduli, scales = primes_and_scales
    primes, size = residues.shape
    if errors.shape[0] != size or scaled.shape[0] != size:
        raise ValueError("batching.add_message: shapes do not fit")
    if moduli.shape[0] != primes or scales.shape != (primes, 2, 2):
        raise ValueError("batching.add_message: shapes do not fit")
    half = modulus >> np.uint64(1)
    for j in range(primes):
        row, prime = residues[j], moduli[j]
        low, low_quotient, high, high_quotient = scales[j, 0, 0], scales[j, 0, 1], scales[j, 1, 0], scales[j, 1, 1]
        twice = np.uint32(prime + prime)
        for i in range(size):
            u = scaled[i]
            up = np.uint32((half - u) >> np.uint64(63))  # 1 where u > t/2
            upper = product(np.uint32(u >> np.uint64(32)), high, high_quotient, prime)
            lower = product(np.uint32(u), low, low_quotient, prime)
            message = below(np.uint32(upper + lower), twice)
            error = below(np.uint32(np.uint32(errors[i]) + prime), prime)  # in (0, 2q) before, whatever the sign
            message = below(np.uint32(message + error + up), twice)
            row[i] = below(below(np.uint32(message + row[i]), twice), prime)


@kernel(
    "boolean(Array(uint64, 1, 'C', readonly=True), uint32[::1], UniTuple(uint64, 2), uint64)",
    "boolean(Array(uint64, 1, 'C', readonly=True), uint64[::1], UniTuple(uint64, 2), uint64)",
)
def _decode(values: Longs, out: Words, shape: Any, most: Any) -> bool:
    digits, digit_bits = shape
    size, entries = values.shape[0], out.shape[0]
    mask, surplus, largest = (np.uint64(1) << digit_bits) - np.uint64(1), np.uint64(0), np.uint64(0)
    for k in range(np.int64(digits)):
        shift = np.uint64(k) * digit_bits
        part = out[min(entries, k * size) : min(entries, (k + 1) * size)]
        for i in range(part.shape[0]):
            entry = (values[i] >> shift) & mask
            largest = max(largest, entry)
            part[i] = entry
        for i in range(part.shape[0], size):
            surplus |= (values[i] >> shift) & mask
    for i in range(size):
        surplus |= values[i] >> (digits * digit_bits)
    return bool(surplus == np.uint64(0) and largest <= most)
