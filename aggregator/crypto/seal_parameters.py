"""What fixes a ciphertext of Microsoft SEAL: degree, primes, plain modulus, and the hash by which SEAL knows them.

SEAL picks primes by their sizes alone, so sizes are enough to agree on. Ciphertexts live modulo all primes but the
last, which only keys have; keys are refused unless their whole modulus is short enough for 128 bits of security.

Source: SEAL's CoeffModulus::Create, util::try_minimal_primitive_root and EncryptionParameters::compute_parms_id; the
lengths are the table for ternary secrets of the Homomorphic Encryption Standard (Albrecht et al. 2018).
"""

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from itertools import count
from math import prod
from typing import Final

from aggregator.errors import ParameterError

MODULUS_BITS_MAX: Final = {4096: 109, 8192: 218}
"""By degree: bits of the product of all primes, for 128 bits of security."""

_WITNESSES: Final = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)  # decide below 3.3e24: Sorenson and Webster 2015


class Scheme(IntEnum):
    """As SEAL numbers them."""

    BFV = 1
    CKKS = 2


@dataclass(frozen=True, slots=True)
class SealParameters:
    """A parameter set as both sides compute it.

    Args:
        scheme: BFV or CKKS.
        degree: n, coefficients of a polynomial.
        prime_bits: sizes of the primes, in SEAL's order; the last one is the keys' own.
        plain_modulus: t, 0 for CKKS.

    Raises:
        ParameterError: not two primes, too long a modulus for that degree, or not as many primes of a size.
    """

    scheme: Scheme
    degree: int
    prime_bits: tuple[int, ...]
    plain_modulus: int = 0

    def __post_init__(self) -> None:
        most = MODULUS_BITS_MAX.get(self.degree, 0)
        if len(self.prime_bits) < 2 or sum(self.prime_bits) > most:
            raise ParameterError(
                f"{len(self.prime_bits)} primes of {sum(self.prime_bits)} bits at degree {self.degree}: 128 bits of "
                f"security allow {most}, and it takes two"
            )
        coefficient_primes(self.degree, self.prime_bits)

    @property
    def primes(self) -> tuple[int, ...]:
        """The primes of ciphertexts."""
        return self.key_primes[:-1]

    @property
    def key_primes(self) -> tuple[int, ...]:
        """The primes of keys: those of ciphertexts, and one more."""
        return coefficient_primes(self.degree, self.prime_bits)

    @property
    def modulus(self) -> int:
        """Q, the product of the ciphertexts' primes."""
        return prod(self.primes)

    def parameters_id(self, primes: tuple[int, ...]) -> bytes:
        """SEAL's hash of this set at the level of these primes, 32 bytes."""
        words = (self.scheme, self.degree, *primes, self.plain_modulus)
        return hashlib.blake2b(struct.pack(f"<{len(words)}Q", *words), digest_size=32).digest()


@cache
def coefficient_primes(degree: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The largest primes of these sizes that are 1 mod 2·degree; of several of one size, the smallest first.

    Raises:
        ParameterError: there are not as many.
    """
    left = {bits: _largest_primes(degree, bits, sizes.count(bits)) for bits in set(sizes)}
    return tuple([left[bits].pop() for bits in sizes])


def _largest_primes(degree: int, bits: int, wanted: int) -> list[int]:
    step, found = 2 * degree, []
    for candidate in range((1 << bits) - step + 1, 1 << (bits - 1), -step):
        if is_prime(candidate):
            found.append(candidate)
        if len(found) == wanted:
            return found
    raise ParameterError(f"degree {degree}: there are not {wanted} primes of {bits} bits")


@cache
def smallest_batching_prime(degree: int, least: int) -> int:
    """The smallest prime from `least` on that is 1 mod 2·degree, so that a polynomial modulo it has slots."""
    step = 2 * degree
    first = -(-(least - 1) // step) * step + 1
    return next(candidate for candidate in count(first, step) if is_prime(candidate))


@cache
def smallest_root(degree: int, prime: int) -> int:
    """The smallest ψ with ψ^degree = -1 mod prime: the one that SEAL's transforms use.

    Raises:
        ParameterError: there is none, since the prime is not 1 mod 2·degree.
    """
    if prime % (2 * degree) != 1:
        raise ParameterError(f"{prime} is not 1 mod {2 * degree}")
    powers = (pow(base, (prime - 1) // (2 * degree), prime) for base in count(2))
    root = smallest = next(power for power in powers if pow(power, degree, prime) == prime - 1)
    square = root * root % prime
    for _ in range(degree - 1):
        root = root * square % prime
        smallest = min(smallest, root)
    return smallest


def is_prime(number: int) -> bool:
    """Whether a number below 2^64 is prime: Miller and Rabin's test to twelve bases, which are enough there."""
    if number < 2 or any(number % witness == 0 for witness in _WITNESSES):
        return number in _WITNESSES
    twos = ((number - 1) & (1 - number)).bit_length() - 1
    return all(_passes(number, witness, twos) for witness in _WITNESSES)


def _passes(number: int, witness: int, twos: int) -> bool:
    """Whether witness^((number - 1) / 2^twos) is 1, or becomes -1 when squared fewer than `twos` times."""
    power = pow(witness, (number - 1) >> twos, number)
    if power == 1:
        return True
    for _ in range(twos):
        if power == number - 1:
            return True
        power = power * power % number
    return False
