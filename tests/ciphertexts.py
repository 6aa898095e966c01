"""TenSEAL's own contexts and vectors, for tests that compare with them or read what they write."""

import functools
import struct

import numpy as np
import tenseal
import zstandard

from aggregator.crypto.seal_format import Level, read_field
from aggregator.crypto.seal_parameters import Scheme, SealParameters

PLAIN = 4_397_979_468_095_489
BFV = SealParameters(Scheme.BFV, 4096, (24, 23, 23, 19), PLAIN)
CKKS = SealParameters(Scheme.CKKS, 8192, (60, 40, 40))
BFV_LEVEL, CKKS_LEVEL = Level.of_ciphertexts(BFV), Level.of_ciphertexts(CKKS, 2.0**40)


@functools.cache
def bfv_context(parameters=BFV):
    return tenseal.context(
        tenseal.SCHEME_TYPE.BFV, parameters.degree, parameters.plain_modulus, list(parameters.prime_bits), n_threads=1
    )


@functools.cache
def ckks_context():
    """As NVFlare provisions it."""
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        8192,
        coeff_mod_bit_sizes=[60, 40, 40],
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
    )
    context.global_scale = 2**40
    return context


@functools.cache
def bfv_bytes(values=(1, 2, 3)):
    return tenseal.bfv_vector(bfv_context(), list(values)).serialize()


def secret_key(secret, parameters):
    """The secret key in a saved context: its transform modulo each prime of keys, as SEAL orders it."""
    saved = read_field(read_field(secret, 3), 1)
    _, _, _, _, compression, _, total = struct.unpack_from("<HBBBBHQ", saved)
    assert total == len(saved)
    content = zstandard.ZstdDecompressor().decompressobj().decompress(saved[16:]) if compression else saved[16:]
    count = len(parameters.key_primes) * parameters.degree
    return np.frombuffer(content[-8 * count :], "<u8").reshape(len(parameters.key_primes), -1)
