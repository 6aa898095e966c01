from functools import cache

import numpy as np
import pytest
import tenseal

from aggregator.crypto import bfv
from aggregator.crypto.seal_format import read_ciphertext, split_vector
from aggregator.errors import MessageError, ParameterError
from tests.ciphertexts import BFV, BFV_LEVEL, PLAIN, secret_key
from tests.reference import bfv as twin


@cache
def pair():
    return bfv.generate(BFV)


def coefficients(transform, prime):
    return twin.from_seal([int(value) for value in transform], prime)


def signed(values, modulus):
    return [value - modulus if value > modulus // 2 else value for value in values]


def test_a_public_key_is_a_small_error_and_its_error_is_what_the_noise_bound_says():
    """b + a·s = e: a centred binomial distribution of 42 bits, variance 10.5, whatever SEAL's documentation says."""
    public, primes = pair().public, BFV.primes
    assert public.shape == (2, 3, 4096)
    assert (public < np.array(primes, np.uint64)[:, None]).all()
    secret = signed(coefficients(secret_key(pair().secret, BFV)[0], primes[0]), primes[0])
    assert set(secret) == {-1, 0, 1}
    rows = [coefficients(row, prime) for part in public for row, prime in zip(part, primes, strict=True)]
    error = signed(twin.phase(rows, secret, primes), BFV.modulus)
    assert max(map(abs, error)) <= 21
    assert 0.85 * 10.5 < np.mean(np.square(error)) < 1.15 * 10.5


def test_pairs_are_fresh_and_show_nothing():
    other = bfv.generate(BFV)
    assert repr(pair()) == "KeyPair()"
    assert not np.array_equal(other.public, pair().public)
    assert not np.array_equal(secret_key(other.secret, BFV), secret_key(pair().secret, BFV))


def test_decryption_is_tenseals_lifted_from_centred():
    context = tenseal.context_from(pair().secret)
    values = [0, 1, PLAIN // 2, PLAIN // 2 + 1, PLAIN - 1] + [7] * 4091
    public = tenseal.context(tenseal.SCHEME_TYPE.BFV, 4096, PLAIN, list(BFV.prime_bits))
    own = public.serialize(save_public_key=False, save_secret_key=True, save_galois_keys=False, save_relin_keys=False)
    data = tenseal.bfv_vector(public, [value - PLAIN if value > PLAIN // 2 else value for value in values]).serialize()
    residues = read_ciphertext(split_vector(data, [4096], BFV_LEVEL)[0], BFV_LEVEL)
    assert bfv.Decryptor(BFV, own).decrypt(residues).tolist() == values
    assert bfv.Decryptor(BFV, pair().secret).decrypt(residues).tolist() != values
    assert context.has_secret_key()
    assert not context.has_public_key()


def test_what_is_no_secret_is_refused_without_being_quoted():
    public_only = tenseal.context(tenseal.SCHEME_TYPE.BFV, 4096, PLAIN, list(BFV.prime_bits))
    public_only.make_context_public()
    residues = np.zeros(BFV_LEVEL.shape, np.uint64)
    for nothing in (b"", b"\0" * 100, pair().secret[:-1], public_only.serialize(), "text"):
        with pytest.raises(MessageError, match="key holder: th") as raised:
            bfv.Decryptor(BFV, nothing).decrypt(residues)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__


def test_parameters_that_tenseal_does_not_take_are_refused(monkeypatch):
    def refuse(*_, **__):
        raise ValueError("no")

    monkeypatch.setattr(tenseal, "context", refuse)
    with pytest.raises(ParameterError, match="TenSEAL takes no such parameters: no"):
        bfv.generate(BFV)


def test_a_tenseal_that_picks_other_primes_is_refused(monkeypatch):
    other = tenseal.context(tenseal.SCHEME_TYPE.BFV, 4096, PLAIN, [24, 24, 22, 19])
    monkeypatch.setattr(tenseal, "context", lambda *_, **__: other)
    with pytest.raises(ParameterError, match=r"TenSEAL picks other parameters: .*parameters' hash"):
        bfv.generate(BFV)
