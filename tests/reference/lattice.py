"""The lattice mode of one client and of the server, in plain integers: no kernel, no NumPy, no transform but A's.

A_j is sampled as values at the odd powers of psi = g^((q-1)/8192): place 64·c + r holds the one at psi^(2k+1) with
k = 64·rev(c) + rev(r), six bits reversed each. Here it becomes coefficients; every product is one of long integers.
"""

import math
import struct
from collections.abc import Sequence
from fractions import Fraction

from tests.reference import gaussian, keystream, limbs, ntt

DEGREE = 4096
PRIMES = (1_073_692_673, 1_073_668_097, 1_073_651_713)
GENERATORS = (3, 3, 10)
GROUP, ROW_WORDS = 21, 4160
MODULUS = math.prod(PRIMES)
REVERSED = [int(f"{i:06b}"[::-1], 2) for i in range(64)]
KEY_VARIANCE, ERROR_VARIANCE = Fraction(81, 4), Fraction(81, 2)


def table(variance: Fraction) -> list[int]:
    """round(2^63 · P[|X| <= k]) for as many k as stay below 2^63."""
    weights = gaussian.weights(variance, 100)
    whole, total, entries = sum(weights), 0, []
    for weight in weights:
        total += weight
        entries.append((total * 2**64 // whole + 1) // 2)
    return [entry for entry in entries if entry < 2**63]


def message_bits(clients_max: int) -> int:
    """floor(log2(Q / (2·ceil(9 · sqrt(40.5 · n_max)) + 2)))."""
    bound = math.isqrt(81 * 81 * clients_max // 2)
    bound += 2 * bound * bound < 81 * 81 * clients_max  # ceil of a square root
    return (MODULUS // (2 * bound + 2)).bit_length() - 1


def uniform(ctx1: bytes, block: int, index: int) -> list[int]:
    """A_j modulo one prime, in the transform's domain."""
    row = block % GROUP * len(PRIMES) + index
    words = part(ctx1, ctx1, "A", block // GROUP, slice(row * ROW_WORDS, (row + 1) * ROW_WORDS), 4)
    kept = [word % 2**30 for word in words if word % 2**30 < PRIMES[index]][:DEGREE]
    assert len(kept) == DEGREE
    return kept


def part(seed: bytes, ctx1: bytes, purpose: str, group: int, places: slice, size: int) -> list[int]:
    """Some words of a group's stream, `size` bytes each."""
    raw = keystream.stream(seed, ctx1, purpose, places.stop * size, group)[places.start * size :]
    return [int.from_bytes(raw[i : i + size], "little") for i in range(0, len(raw), size)]


def coefficients(values: Sequence[int], index: int) -> list[int]:
    """The polynomial with these values."""
    prime, size = PRIMES[index], len(values)
    psi = pow(GENERATORS[index], (prime - 1) // (2 * size), prime)
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


def times_public(secret: Sequence[int], ctx1: bytes, block: int) -> list[list[int]]:
    """A_j · s modulo each prime."""
    rows = []
    for index, prime in enumerate(PRIMES):
        public = coefficients(uniform(ctx1, block, index), index)
        rows.append(ntt.product_in_one_integer(public, [s % prime for s in secret], prime))
    return rows


def pieces(x: Sequence[int], slots: int) -> list[Sequence[int]]:
    """The vector, block by block."""
    return [x[start : start + DEGREE * slots] for start in range(0, len(x), DEGREE * slots)]


def ciphertexts(x: Sequence[int], seed: bytes, ctx1: bytes, slot_bits: int, clients_max: int) -> bytes:
    """What follows the blinded key: c = A·s + T·e + m, residues of the first `stride` coefficients, prime by prime."""
    bits, secret, out = message_bits(clients_max), key(seed, ctx1), b""
    for block, words in enumerate(pieces(x, bits // slot_bits)):
        message = limbs.messages(words, slot_bits, bits // slot_bits)
        for prime, row in zip(PRIMES, times_public(secret, ctx1, block), strict=True):
            terms = zip(
                row, errors(seed, ctx1, block), message, strict=False
            )  # the message is the shortest in the last block
            out += b"".join(struct.pack("<I", (a + (e << bits) + m) % prime) for a, e, m in terms)
    return out


def decrypt(total: Sequence[int], secret: Sequence[int], ctx1: bytes, shape: tuple[int, int, int]) -> list[int]:
    """The sum of the messages; `total` holds summed residues as they travel, shape = (entries, slot_bits, n_max)."""
    entries, slot_bits, clients_max = shape
    bits, out, start = message_bits(clients_max), [], 0
    for block, words in enumerate(pieces(range(entries), bits // slot_bits)):
        stride = -(-len(words) // (bits // slot_bits))
        masks = times_public(secret, ctx1, block)
        rows = []
        for prime, mask in zip(PRIMES, masks, strict=True):
            rows.append([(c - a) % prime for c, a in zip(total[start : start + stride], mask, strict=False)])
            start += stride
        values = [value % 2**bits for value in limbs.centred(rows, PRIMES)]
        out += limbs.entries(values, slot_bits, bits // slot_bits, len(words))
    return out
