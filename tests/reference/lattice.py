"""The lattice mode of one client and of the server, in plain integers: no kernel, no NumPy, no transform but A's.

A_j is sampled as values at the odd powers of psi = g^((q-1)/8192): place 64·c + r holds the one at psi^(2k+1) with
k = 64·rev(c) + rev(r), six bits reversed each. Here it becomes coefficients; every product is one of long integers.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tests.reference import gaussian, keystream, limbs, ntt, rows

DEGREE = 4096
GROUP, ROW_WORDS = 20, 4352
REVERSED = [int(f"{i:06b}"[::-1], 2) for i in range(64)]
KEY_VARIANCE, ERROR_VARIANCE = Fraction(81, 4), Fraction(81, 2)


@dataclass(frozen=True)
class Modulus:
    """Three primes of some bits; their product is Q."""

    bits: int
    primes: tuple[int, ...]
    generators: tuple[int, ...]

    def message_bits(self, clients_max: int) -> int:
        """floor(log2(Q / (2·ceil(9 · sqrt(40.5 · n_max)) + 2)))."""
        bound = math.isqrt(81 * 81 * clients_max // 2)
        bound += 2 * bound * bound < 81 * 81 * clients_max  # ceil of a square root
        return (math.prod(self.primes) // (2 * bound + 2)).bit_length() - 1


@functools.cache
def modulus(bits: int) -> Modulus:
    """The three largest primes below 2^bits that are 1 mod 8192, by trial division; their least primitive roots."""
    primes = _largest(bits)
    return Modulus(bits, primes, tuple(_primitive_root(prime) for prime in primes))


def chosen(slot_bits: int, clients_max: int) -> tuple[Modulus, int, int]:
    """Modulus, message bits and slots: as few bits per entry as there are, and then as small a modulus."""
    fits = []
    for bits in range(24, 31):
        room = modulus(bits).message_bits(clients_max)
        if room >= slot_bits:
            fits.append((Fraction(bits, room // slot_bits), bits, room))
    _, bits, room = min(fits)
    return modulus(bits), room, room // slot_bits


def _largest(bits: int) -> tuple[int, ...]:
    found: list[int] = []
    candidate = 2**bits // 8192 * 8192 + 1 - 8192
    while len(found) < 3:
        found += [candidate] if _factors(candidate) == [candidate] else []
        candidate -= 8192
    return tuple(found)


def _factors(number: int) -> list[int]:
    """The primes that divide it."""
    found, divisor = [], 2
    while divisor * divisor <= number:
        if number % divisor == 0:
            found.append(divisor)
            while number % divisor == 0:
                number //= divisor
        divisor += 1
    return found + [number] * (number > 1)


def _primitive_root(prime: int) -> int:
    orders = [(prime - 1) // factor for factor in _factors(prime - 1)]
    return next(g for g in range(2, prime) if all(pow(g, order, prime) != 1 for order in orders))


def table(variance: Fraction) -> list[int]:
    """round(2^63 · P[|X| <= k]) for as many k as stay below 2^63."""
    weights = gaussian.weights(variance, 100)
    whole, total, entries = sum(weights), 0, []
    for weight in weights:
        total += weight
        entries.append((total * 2**64 // whole + 1) // 2)
    return [entry for entry in entries if entry < 2**63]


def uniform(ctx1: bytes, block: int, index: int, ring: Modulus) -> list[int]:
    """A_j modulo one prime, in the transform's domain."""
    row = block % GROUP * len(ring.primes) + index
    words = part(ctx1, ctx1, "A", block // GROUP, slice(row * ROW_WORDS, (row + 1) * ROW_WORDS), 4)
    kept = [word for word in (word % 2**ring.bits for word in words) if word < ring.primes[index]][:DEGREE]
    assert len(kept) == DEGREE
    return kept


def part(seed: bytes, ctx1: bytes, purpose: str, group: int, places: slice, size: int) -> list[int]:
    """Some words of a group's stream, `size` bytes each."""
    raw = keystream.stream(seed, ctx1, purpose, places.stop * size, group)[places.start * size :]
    return [int.from_bytes(raw[i : i + size], "little") for i in range(0, len(raw), size)]


def coefficients(values: Sequence[int], prime: int, generator: int) -> list[int]:
    """The polynomial with these values."""
    size = len(values)
    psi = pow(generator, (prime - 1) // (2 * size), prime)
    natural = [values[64 * REVERSED[k // 64] + REVERSED[k % 64]] for k in range(size)]
    folded = _sums(natural, pow(psi, -2, prime), prime)
    return [a * pow(size, -1, prime) * pow(psi, -j, prime) % prime for j, a in enumerate(folded)]


def _sums(values: list[int], root: int, prime: int) -> list[int]:
    """Σ_i values[i] · root^(i·j) for every j."""
    if len(values) == 1:
        return values
    even = _sums(values[0::2], root * root % prime, prime)
    odd = _sums(values[1::2], root * root % prime, prime)
    power, half = 1, len(even)
    out = [0] * (2 * half)
    for j in range(half):
        out[j] = (even[j] + power * odd[j]) % prime
        out[j + half] = (even[j] - power * odd[j]) % prime
        power = power * root % prime
    return out


def key(seed: bytes, ctx1: bytes) -> list[int]:
    entries = table(KEY_VARIANCE)
    return [gaussian.draw(word, entries) for word in part(seed, ctx1, "key", 0, slice(0, DEGREE), 8)]


def errors(seed: bytes, ctx1: bytes, block: int) -> list[int]:
    entries, first = table(ERROR_VARIANCE), block % GROUP * DEGREE
    words = part(seed, ctx1, "error", block // GROUP, slice(first, first + DEGREE), 8)
    return [gaussian.draw(word, entries) for word in words]


def times_public(secret: Sequence[int], ctx1: bytes, block: int, ring: Modulus) -> list[list[int]]:
    """A_j · s modulo each prime."""
    products = []
    for index, (prime, generator) in enumerate(zip(ring.primes, ring.generators, strict=True)):
        public = coefficients(uniform(ctx1, block, index, ring), prime, generator)
        products.append(ntt.product_in_one_integer(public, [s % prime for s in secret], prime))
    return products


def pieces(x: Sequence[int], slots: int) -> list[Sequence[int]]:
    """The vector, block by block."""
    return [x[start : start + DEGREE * slots] for start in range(0, len(x), DEGREE * slots)]


def stride(entries: int, slots: int) -> int:
    """Coefficients of a block of that many entries that travel: what the slots need, in whole lanes of 32."""
    return -(-entries // (rows.LANE * slots)) * rows.LANE


def ciphertexts(x: Sequence[int], seed: bytes, ctx1: bytes, slot_bits: int, clients_max: int) -> bytes:
    """What follows the blinded key: c = A·s + T·e + m, residues of the first `stride` coefficients, prime by prime."""
    ring, bits, slots = chosen(slot_bits, clients_max)
    secret, out = key(seed, ctx1), b""
    for block, words in enumerate(pieces(x, slots)):
        message = limbs.messages(words, slot_bits, slots, stride(len(words), slots))
        for prime, row in zip(ring.primes, times_public(secret, ctx1, block, ring), strict=True):
            terms = zip(
                row, errors(seed, ctx1, block), message, strict=False
            )  # the message is the shortest in the last block
            out += rows.pack([(a + (e << bits) + m) % prime for a, e, m in terms], ring.bits)
    return out


def decrypt(total: Sequence[int], secret: Sequence[int], ctx1: bytes, shape: tuple[int, int, int]) -> list[int]:
    """The sum of the messages; `total` holds summed residues, row after row, shape = (entries, slot_bits, n_max)."""
    entries, slot_bits, clients_max = shape
    ring, bits, slots = chosen(slot_bits, clients_max)
    out, start = [], 0
    for block, words in enumerate(pieces(range(entries), slots)):
        size = stride(len(words), slots)
        residues = []
        for prime, mask in zip(ring.primes, times_public(secret, ctx1, block, ring), strict=True):
            residues.append([(c - a) % prime for c, a in zip(total[start : start + size], mask, strict=False)])
            start += size
        values = [value % 2**bits for value in limbs.centred(residues, ring.primes)]
        out += limbs.entries(values, slot_bits, slots, len(words))
    return out
