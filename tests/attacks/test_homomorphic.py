"""What a client, or a server, may try with ciphertexts, to read more than the sum."""

import numpy as np
import pytest
import tenseal

from aggregator.crypto.bfv import Decryptor
from aggregator.crypto.seal_format import Level, read_ciphertext, split_vector
from aggregator.errors import MessageError
from aggregator.protocol import homomorphic
from aggregator.protocol.homomorphic_layout import DEGREE, CipherLayout
from tests.ciphertexts import secret_key
from tests.consortium import drbg
from tests.reference import bfv as twin

CTX0 = bytes(32)
LAYOUT = CipherLayout(10_000, 16, 1_000)


@pytest.fixture(scope="module")
def keys():
    return homomorphic.new_keys(LAYOUT)


def honest(keys, *label):
    key = homomorphic.read_public_key(keys.public, LAYOUT)
    x = np.zeros(LAYOUT.entries, np.uint32)
    return homomorphic.contribute(x, key, LAYOUT, seed=drbg("attack", *label)(32), ctx0=CTX0, each=map)


def total_of(*payloads):
    total = homomorphic.Total(LAYOUT)
    for payload in payloads:
        for chunk in total.plan.cut(memoryview(payload)):
            total.check(chunk.index, chunk.data)
            total.add(chunk.index, chunk.data)
    return total.packed()


def packed(polynomials):
    """A whole contribution: blocks of two polynomials of integers modulo Q."""
    primes = LAYOUT.parameters.primes
    residues = [[[value % prime for value in p] for prime in primes] for block in polynomials for p in block]
    rows = np.array(residues, np.uint32).reshape(-1, DEGREE)
    return homomorphic._packed(rows, LAYOUT).view(np.uint8).data


def test_ciphertext_that_reads_the_key(keys):
    """(0, Q/t) adds s to a sum that everybody knows to be zero: without the range the result would be the key."""
    parameters = LAYOUT.parameters
    scale, zero = parameters.modulus // parameters.plain_modulus, [0] * DEGREE
    payload = packed([(zero, [scale, *zero[1:]]), (zero, zero)])
    decryptor = Decryptor(parameters, keys.secret)
    residues = homomorphic._unpacked(np.frombuffer(payload, np.uint32), LAYOUT)[: 2 * len(parameters.primes)]
    slots = decryptor.decrypt(residues.astype(np.uint64).reshape(2, -1, DEGREE))
    prime = parameters.primes[0]
    secret = twin.from_seal([int(value) for value in secret_key(keys.secret, parameters)[0]], prime)
    ternary = [value - prime if value > prime // 2 else value for value in secret]
    assert slots.tolist() == slots_of_polynomial(ternary, parameters.plain_modulus)
    with pytest.raises(MessageError, match="sum: it is no sum of 3 clients' entries: one of them lied"):
        homomorphic.decrypt(total_of(honest(keys, 1), honest(keys, 2), payload), keys.secret, LAYOUT, clients=3)


def slots_of_polynomial(coefficients, plain):
    """Values at ψ^(3^i), then at ψ^(-3^i), in plain integers."""
    psi, size = twin.smallest_root(DEGREE, plain), DEGREE
    twisted = [a * pow(psi, j, plain) % plain for j, a in enumerate(coefficients)]
    values = twin.lattice._sums(twisted, psi * psi % plain, plain)  # values[k] at ψ^(2k + 1)
    order, power = [0] * size, 1
    for i in range(size // 2):
        order[i], order[size // 2 + i] = (power - 1) // 2, (2 * size - power - 1) // 2
        power = power * 3 % (2 * size)
    return [values[k] for k in order]


def test_ciphertext_with_noise_that_flips_roundings(keys):
    """Decryptions that fail tell of the key (Cheon et al. 2024, eprint 2024/127): a failed one is not released."""
    parameters = LAYOUT.parameters
    half = parameters.modulus // (2 * parameters.plain_modulus)
    payload = packed([([half] * DEGREE, [0] * DEGREE), ([0] * DEGREE, [0] * DEGREE)])
    with pytest.raises(MessageError, match="sum: it is no sum"):
        homomorphic.decrypt(total_of(honest(keys, 1), payload), keys.secret, LAYOUT, clients=2)


def test_entries_behind_the_last_one(keys):
    """Slots that the result never shows must be zero too: there is no room for anything of one's own."""
    layout = CipherLayout(3, 16, 1_000)
    wide = CipherLayout(8_192, 16, 1_000)
    x = np.zeros(wide.entries, np.uint32)
    x[8_000] = 1
    key = homomorphic.read_public_key(keys.public, layout)
    payload = homomorphic.contribute(x, key, wide, seed=drbg("behind")(32), ctx0=CTX0, each=map)
    assert homomorphic.decrypt(payload, keys.secret, wide, clients=1)[8_000] == 1
    with pytest.raises(MessageError, match="no sum of 1 clients' entries"):
        homomorphic.decrypt(payload, keys.secret, layout, clients=1)


def test_ciphertext_of_an_earlier_round(keys):
    """Under the key of another round, hence noise: the key holder sees that it is no sum."""
    earlier = homomorphic.new_keys(LAYOUT)
    with pytest.raises(MessageError, match="no sum of 2 clients' entries"):
        homomorphic.decrypt(total_of(honest(keys, 1), honest(earlier, 2)), keys.secret, LAYOUT, clients=2)


def test_key_holder_never_loads_server_bytes(keys, monkeypatch):
    """SEAL sees what the key holder composed, head and all; anything else is refused before SEAL is there."""
    loaded = []
    load = tenseal.bfv_vector_from
    monkeypatch.setattr(tenseal, "bfv_vector_from", lambda context, data: loaded.append(data) or load(context, data))
    total = total_of(honest(keys, 1))
    homomorphic.decrypt(total, keys.secret, LAYOUT, clients=1)
    level = Level.of_ciphertexts(LAYOUT.parameters)
    assert len(loaded) == LAYOUT.blocks
    composed = [read_ciphertext(split_vector(data, [DEGREE], level)[0], level) for data in loaded]
    sent = homomorphic._unpacked(np.frombuffer(total, np.uint32), LAYOUT)
    assert np.array_equal(np.concatenate(composed).reshape(-1, DEGREE), sent)
    seal = loaded[0]
    for bad in (seal, seal * 2, seal + bytes(len(total) - len(seal)) if len(seal) < len(total) else seal[: len(total)]):
        with pytest.raises(MessageError, match="sum: "):
            homomorphic.decrypt(bad, keys.secret, LAYOUT, clients=1)
    assert len(loaded) == LAYOUT.blocks
