import math

import pytest
import tenseal
from hypothesis import given
from hypothesis import strategies as st
from tenseal import sealapi

from aggregator.crypto import seal_parameters
from aggregator.crypto.seal_parameters import Scheme, SealParameters, coefficient_primes
from aggregator.errors import ParameterError
from tests.reference import bfv as twin


@pytest.mark.parametrize(
    ("degree", "sizes"),
    [
        (4096, (24, 23, 23, 19)),
        (4096, (20, 20, 20, 20, 19)),
        (4096, (30, 30, 30, 19)),
        (8192, (60, 40, 40)),
        (8192, (36, 36, 37)),
    ],
)
def test_the_primes_are_those_that_seal_picks(degree, sizes):
    assert list(coefficient_primes(degree, sizes)) == [q.value() for q in sealapi.CoeffModulus.Create(degree, sizes)]


def test_the_hash_is_seals_for_both_schemes():
    bfv = SealParameters(Scheme.BFV, 4096, (24, 23, 23, 19), 1_032_193)
    context = tenseal.context(tenseal.SCHEME_TYPE.BFV, 4096, 1_032_193, [24, 23, 23, 19])
    ckks = SealParameters(Scheme.CKKS, 8192, (60, 40, 40))
    others = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 40])
    others.global_scale = 2**40
    for parameters, vector in (
        (bfv, tenseal.bfv_vector(context, [1])),
        (ckks, tenseal.ckks_vector(others, [1.0])),
    ):
        seal = vector.ciphertext()[0]
        path_free = b"".join(word.to_bytes(8, "little") for word in seal.parms_id())
        assert parameters.parameters_id(parameters.primes) == path_free


def test_primality_agrees_with_a_sieve():
    sieve = [True] * 20_000
    sieve[:2] = False, False
    for n in range(2, 142):
        sieve[n * n :: n] = [False] * len(sieve[n * n :: n])
    assert [seal_parameters.is_prime(n) for n in range(20_000)] == sieve


@pytest.mark.parametrize("number", [3215031751, 3474749660383, 341550071728321, 2**61 - 1, 2**64 - 59])
def test_strong_pseudoprimes_are_told_from_primes(number):
    """The smallest composites that pass for the first 4, 6 and 7 prime bases, and two primes."""
    assert seal_parameters.is_prime(number) is (number > 2**60)


@given(st.integers(4_096, 2**59))
def test_the_batching_prime_is_the_next_one(least):
    prime = seal_parameters.smallest_batching_prime(4096, least)
    assert prime >= least
    assert prime % 8192 == 1
    assert not any(seal_parameters.is_prime(n) for n in range(least + (1 - least) % 8192, prime, 8192))
    assert prime == sealapi.Modulus(prime).value()
    assert sealapi.Modulus(prime).is_prime()


@pytest.mark.parametrize("prime", [40961, 1_032_193, 4_398_039_891_969])
def test_the_root_is_the_smallest(prime):
    prime = seal_parameters.smallest_batching_prime(16, prime)
    root = seal_parameters.smallest_root(16, prime)
    assert root == twin.smallest_root(16, prime)
    assert pow(root, 16, prime) == prime - 1


def test_there_is_no_root_modulo_other_primes():
    with pytest.raises(ParameterError, match="97 is not 1 mod 64"):
        seal_parameters.smallest_root(32, 97)


@pytest.mark.parametrize(
    ("degree", "sizes", "says"),
    [
        (4096, (55, 55), "2 primes of 110 bits at degree 4096: 128 bits of security allow 109"),
        (8192, (60, 60, 60, 39), "219 bits at degree 8192: 128 bits of security allow 218"),
        (2048, (27, 27), "allow 0"),
        (4096, (54,), "it takes two"),
        (4096, (13, 54), "there are not 1 primes of 13 bits"),
    ],
)
def test_unsafe_parameters_are_refused(degree, sizes, says):
    SealParameters(Scheme.BFV, 4096, (54, 55), 40961)
    with pytest.raises(ParameterError, match=says):
        SealParameters(Scheme.BFV, degree, sizes, 40961)


def test_the_security_table_is_seals():
    for degree, bits in seal_parameters.MODULUS_BITS_MAX.items():
        assert sealapi.CoeffModulus.MaxBitCount(degree, sealapi.SEC_LEVEL_TYPE.TC128) == bits


def test_modulus_and_key_primes():
    parameters = SealParameters(Scheme.BFV, 4096, (24, 23, 23, 19), 40961)
    assert parameters.primes == parameters.key_primes[:3]
    assert parameters.modulus == math.prod(parameters.primes)
