"""How a vector lies in BFV ciphertexts: the parameter table of homomorphic mode, computed from n_max and bits.

A block is a ciphertext of 4,096 slots, each a number modulo t with p entries of w bits in it, entry k·4096 + i of the
block being digit k of slot i. t is the smallest prime = 1 mod 8192 from 3/2 of the largest sum of a slot on, so that a
third of all values are none and betray a client that lied (see `homomorphic.decrypt`). Q, the product of the
ciphertexts' primes, is as short as the noise of n_max ciphertexts allows. Of all p the one with the fewest bytes per
entry is taken: 16-bit values of up to 1,000 clients take p = 2, t of 53 bits, Q of 71 bits, 8.875 bytes an entry.

Noise. A client's ciphertext is (b·u + e0 + round(Q·m/t), a·u + e1) under the key (b, a) = (e - a·s, a), so the sum
decrypts to Σ m as long as

    |e·Σu + Σe0 + s·Σe1| + n_max/2 + 1 <= Q / 2t

(each rounding is off by at most 1/2; a remainder t·(Q mod t) would come in only if Q·m/t were not rounded but taken
from floor(Q/t); the 1 covers SEAL's division, which is off by less than 2^-58). u is uniform on {-1, 0, 1} and e0, e1
are discrete Gaussians of variance σ², all sub-Gaussian with their variance, so given the key a coefficient of the sum
of n_max is so with

    V = n_max · (2/3·|e|² + σ²·(1 + |s|²)),      P[|coefficient| > τ·sqrt(V)] <= 2·exp(-τ²/2).

|s|² <= n always (s is ternary); |e|² <= σ_e²·(n + 2·sqrt(n·x) + 2x) except with probability exp(-x). With x = 67 and
τ² = 2·67 a sum of 2^30 coefficients fails with probability below 2^-65. σ² = 3.2², as the standard has it; SEAL's own
σ_e² is 10.5, a centred binomial distribution of 42 bits.

n = 8192 is never shorter: its noise is √2 larger for the same slots, and at 4096 the longest Q that is needed, 80 bits,
leaves 128 bits of security room to spare (109 bits with the keys' prime).

Source: Fan and Vercauteren 2012 (eprint 2012/144) for the scheme; Micciancio and Peikert 2012 (eprint 2011/501), lemma
2.8, for discrete Gaussians being sub-Gaussian; Hsu, Kakade and Zhang 2012 (arXiv 1110.2842) for |e|²; the Homomorphic
Encryption Standard for the lengths.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from math import isqrt, prod
from typing import Final

from aggregator.crypto.canonical import Field
from aggregator.crypto.seal_parameters import Scheme, SealParameters, coefficient_primes, smallest_batching_prime
from aggregator.errors import ParameterError
from aggregator.wire.chunks import ChunkPlan
from aggregator.wire.messages import CHUNK_BYTES_MAX

DEGREE: Final = 4096
PLAIN_BITS_MAX: Final = 60  # SEAL's
PRIME_BITS_MIN: Final = 20  # there are at least 8 of every size from here on
PRIME_BITS_MAX: Final = 30  # native.ntt's
KEY_PRIME_BITS: Final = 19  # only keys have it, and nothing here uses it; of no size that ciphertexts have
TAIL: Final = 67  # nats: exp(-67) = 2^-96.6, beside 2^30 coefficients
ERROR_VARIANCE: Final = Fraction(1024, 100)  # std 3.2
KEY_ERROR_VARIANCE: Final = Fraction(21, 2)


@dataclass(frozen=True, slots=True)
class CipherLayout:
    """How a vector lies in ciphertexts, and how many of them one sum may hold.

    Args:
        entries: L.
        value_bits: v, bits of one client's entry.
        clients_max: n_max.

    Raises:
        ParameterError: the sum of one entry needs more bits than a slot can have.
    """

    entries: int
    value_bits: int
    clients_max: int
    digits: int = field(init=False)
    parameters: SealParameters = field(init=False)

    def __post_init__(self) -> None:
        digits, parameters = _best(self.value_bits, self.clients_max)
        object.__setattr__(self, "digits", digits)
        object.__setattr__(self, "parameters", parameters)

    @property
    def digit_bits(self) -> int:
        """w, bits of the sum of one entry."""
        return _digit_bits(self.value_bits, self.clients_max)

    @property
    def block_entries(self) -> int:
        """Entries of every ciphertext but the last."""
        return DEGREE * self.digits

    @property
    def blocks(self) -> int:
        """Ciphertexts of one vector."""
        return -(-self.entries // self.block_entries)

    @property
    def block_bytes(self) -> int:
        """Of one ciphertext on the wire: its rows, bit-packed, each of whole bytes."""
        return 2 * sum(self.parameters.prime_bits[:-1]) * DEGREE // 8

    @property
    def blocks_together(self) -> int:
        """Ciphertexts that one wire chunk holds."""
        return CHUNK_BYTES_MAX // self.block_bytes

    @property
    def groups(self) -> list[range]:
        """The blocks, by what travels together."""
        starts = range(0, self.blocks, self.blocks_together)
        return [range(start, min(start + self.blocks_together, self.blocks)) for start in starts]

    def words(self, blocks: range) -> slice:
        """Which entries of the vector a run of blocks holds."""
        return slice(blocks.start * self.block_entries, min(self.entries, blocks.stop * self.block_entries))

    def packed_words(self, blocks: range) -> slice:
        """Where a run of blocks lies as it travels, in words of 32 bits."""
        block_words = self.block_bytes // 4
        return slice(blocks.start * block_words, blocks.stop * block_words)

    @property
    def bytes_per_entry(self) -> float:
        """What travels, of a vector that fills its ciphertexts."""
        return self.block_bytes / self.block_entries

    @property
    def plan(self) -> ChunkPlan:
        """How a contribution, or a sum, travels: ciphertexts, as many together as fit a mebibyte."""
        return ChunkPlan(self.blocks * self.block_bytes, self.blocks_together * self.block_bytes)

    def fields(self) -> tuple[Field, ...]:
        """The parameter set, for ctx0."""
        return (
            (DEGREE, self.parameters.key_primes, self.parameters.plain_modulus, self.digits, self.digit_bits),
            (ERROR_VARIANCE.numerator, ERROR_VARIANCE.denominator),
        )


def noise_max(clients_max: int) -> int:
    """A bound of the noise in any coefficient of a sum of that many, the roundings of the messages included."""
    key_error = DEGREE + 2 * (isqrt(DEGREE * TAIL) + 1) + 2 * TAIL
    variance = Fraction(2, 3) * KEY_ERROR_VARIANCE * key_error + ERROR_VARIANCE * (1 + DEGREE)
    return isqrt(int(2 * TAIL * clients_max * variance)) + 1 + (clients_max + 1) // 2


def _digit_bits(value_bits: int, clients_max: int) -> int:
    return (clients_max * ((1 << value_bits) - 1)).bit_length()


@cache
def _best(value_bits: int, clients_max: int) -> tuple[int, SealParameters]:
    """Digits per slot and the parameter set that take the fewest bytes per entry; of equals, the fewest digits."""
    bits = _digit_bits(value_bits, clients_max)
    most = clients_max * ((1 << value_bits) - 1)
    choices: list[tuple[Fraction, int, SealParameters]] = []
    for digits in range(1, PLAIN_BITS_MAX // bits + 1):
        plain = smallest_batching_prime(DEGREE, 1 + sum(most << bits * k for k in range(digits)) * 3 // 2)
        if plain.bit_length() <= PLAIN_BITS_MAX:
            sizes = _prime_bits(2 * plain * (noise_max(clients_max) + 1))
            parameters = SealParameters(Scheme.BFV, DEGREE, (*sizes, KEY_PRIME_BITS), plain)
            choices.append((Fraction(sum(sizes), digits), digits, parameters))
    if not choices:
        raise ParameterError(
            f"homomorphic mode: a sum of {clients_max} clients needs {bits} bits, a slot has less than "
            f"{PLAIN_BITS_MAX}: lower value_bits or clients_max"
        )
    return min(choices, key=lambda choice: choice[:2])[1:]


def _prime_bits(least: int) -> tuple[int, ...]:
    """Sizes of as few primes as reach a product of `least`, as equal as can be, the longer ones first.

    Raises:
        ParameterError: no primes that keep the whole modulus within what is safe reach it.
    """
    total = least.bit_length() - 1
    while True:
        count = -(-total // PRIME_BITS_MAX)
        sizes = tuple([max(PRIME_BITS_MIN, (total + k) // count) for k in range(count - 1, -1, -1)])
        if prod(coefficient_primes(DEGREE, sizes)) >= least:
            return sizes
        total += 1
