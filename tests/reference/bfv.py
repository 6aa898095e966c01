"""BFV in plain integers: slots, encryption and decryption from the definitions; no kernel, no NumPy, no SEAL.

A transform of SEAL's holds at place i the value at psi^(2·rev(i) + 1), psi the smallest primitive 2n-th root of one.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

from tests.reference import gaussian, keystream, lattice, ntt, rows

TERNARY = [round(Fraction(2**63, 3))]
BATCH = 4


def smallest_root(size: int, prime: int) -> int:
    base = next(g for g in range(2, prime) if pow(g, (prime - 1) // 2, prime) == prime - 1)
    step = pow(base, (prime - 1) // size, prime)
    root = smallest = pow(base, (prime - 1) // (2 * size), prime)
    for _ in range(size):
        root = root * step % prime
        smallest = min(smallest, root)
    return smallest


def interpolated(values: Sequence[int], psi: int, prime: int) -> list[int]:
    """The polynomial with value k at psi^(2k + 1)."""
    size = len(values)
    folded = lattice._sums(list(values), pow(psi, -2, prime), prime)
    return [a * pow(size, -1, prime) * pow(psi, -j, prime) % prime for j, a in enumerate(folded)]


def rev(value: int, size: int) -> int:
    return int(f"{value:0{size.bit_length() - 1}b}"[::-1], 2)


def from_seal(row: Sequence[int], prime: int) -> list[int]:
    """The coefficients of a transform as SEAL orders it."""
    size = len(row)
    return interpolated([row[rev(k, size)] for k in range(size)], smallest_root(size, prime), prime)


def message(slots: Sequence[int], plain: int) -> list[int]:
    """m with m(psi^(3^i)) = slot i and m(psi^(-3^i)) = slot n/2 + i."""
    size = len(slots)
    values, power = [0] * size, 1
    for i in range(size // 2):
        values[(power - 1) // 2] = slots[i]
        values[(2 * size - power - 1) // 2] = slots[size // 2 + i]
        power = power * 3 % (2 * size)
    return interpolated(values, smallest_root(size, plain), plain)


def slots_of(words: Sequence[int], size: int, bits: int) -> list[int]:
    slots = [0] * size
    for place, word in enumerate(words):
        slots[place % size] += word << bits * (place // size)
    return slots


def scaled(m: Sequence[int], modulus: int, plain: int) -> list[int]:
    """round(Q·m / t); t is odd, so that nothing lies halfway."""
    return [(2 * modulus * a + plain) // (2 * plain) for a in m]


def unpacked(data: bytes, widths: Sequence[int], size: int) -> list[list[int]]:
    out, start = [], 0
    for width in widths:
        stop = start + size * width // 8
        out.append(rows.unpack(data[start:stop], width))
        start = stop
    return out


def ciphertext(
    words: Sequence[int],
    block: int,
    public: bytes,
    seed: bytes,
    ctx0: bytes,
    shape: tuple[Sequence[int], int, int, int],
) -> bytes:
    """One packed ciphertext; shape = (primes, t, bits of a digit, blocks in a wire chunk)."""
    primes, plain, bits, together = shape
    size = 4096
    table = lattice.table(Fraction(1024, 100))
    number, place = divmod(block, together)
    u = [gaussian.draw(word, TERNARY) for word in part(seed, ctx0, "ephemeral", number, place * size, size)]
    draws = part(seed, ctx0, "error", number, 2 * place * size, 2 * size)
    errors = [gaussian.draw(word, table) for word in draws]
    widths = [prime.bit_length() for prime in primes] * 2
    key = unpacked(public, widths, size)
    parts = [scaled(message(slots_of(words, size, bits), plain), math.prod(primes), plain), [0] * size]
    out = b""
    for index in range(2 * len(primes)):
        prime, polynomial = primes[index % len(primes)], index // len(primes)
        product = ntt.product_in_one_integer(from_seal(key[index], prime), [a % prime for a in u], prime)
        terms = zip(product, errors[polynomial * size :], parts[polynomial], strict=False)
        out += rows.pack([(a + e + m) % prime for a, e, m in terms], prime.bit_length())
    return out


def part(seed: bytes, ctx0: bytes, purpose: str, group: int, start: int, count: int) -> list[int]:
    raw = keystream.stream(seed, ctx0, purpose, 8 * (start + count), group)[8 * start :]
    return [int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8)]


def phase(polynomials: Sequence[Sequence[int]], secret: Sequence[int], primes: Sequence[int]) -> list[int]:
    """c0 + c1·s mod Q, in [0, Q)."""
    count, modulus = len(primes), math.prod(primes)
    residues = []
    for index, prime in enumerate(primes):
        product = ntt.product_in_one_integer(list(polynomials[count + index]), [a % prime for a in secret], prime)
        residues.append([(a + b) % prime for a, b in zip(polynomials[index], product, strict=True)])
    basis = [modulus // prime * pow(modulus // prime, -1, prime) for prime in primes]
    return [sum(a * b for a, b in zip(column, basis, strict=True)) % modulus for column in zip(*residues, strict=True)]
