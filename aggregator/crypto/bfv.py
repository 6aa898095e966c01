"""What only TenSEAL does in homomorphic mode: make a key pair and decrypt a sum. Run by the key holder alone.

TenSEAL is imported at the first call: clients, servers and auditors never load it. It is handed nothing but bytes that
this process composed of checked residues.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from aggregator.crypto.seal_format import Level, Longs, read_ciphertext, read_field, write_vector
from aggregator.crypto.seal_parameters import SealParameters
from aggregator.errors import MessageError, ParameterError

_PUBLIC_KEY_FIELDS = 2, 1  # of TenSEALContextProto, and in it


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A fresh key pair of one round.

    public: residues of (b, a) by values, in SEAL's order, uint64[2, primes of ciphertexts, n].
    secret: a TenSEAL context with the secret key, opaque bytes, to be wrapped and destroyed.
    """

    public: Longs = field(repr=False, compare=False)
    secret: bytes = field(repr=False, compare=False)


def generate(parameters: SealParameters) -> KeyPair:
    """Make a fresh pair. Run by the key holder when a round opens; randomness is SEAL's, from the system.

    Raises:
        ParameterError: TenSEAL takes no such parameters, or picks other primes.
    """
    import tenseal  # noqa: PLC0415

    try:
        context = tenseal.context(
            tenseal.SCHEME_TYPE.BFV,
            poly_modulus_degree=parameters.degree,
            plain_modulus=parameters.plain_modulus,
            coeff_mod_bit_sizes=list(parameters.prime_bits),
            n_threads=1,
        )
    except (ValueError, RuntimeError) as error:
        raise ParameterError(f"TenSEAL takes no such parameters: {error}") from None
    saved: bytes | memoryview = _saved(context, public=True)
    for number in _PUBLIC_KEY_FIELDS:
        saved = read_field(saved, number)
    try:
        keys = read_ciphertext(saved, Level.of_public_keys(parameters))
    except MessageError as error:
        raise ParameterError(f"TenSEAL picks other parameters: {error}") from None
    return KeyPair(np.array(keys[:, :-1]), _saved(context, secret=True))


def _saved(context: Any, *, public: bool = False, secret: bool = False) -> bytes:
    saved: bytes = context.serialize(
        save_public_key=public, save_secret_key=secret, save_galois_keys=False, save_relin_keys=False
    )
    return saved


class Decryptor:
    """Decrypts ciphertexts under one secret. Run by the key holder.

    Raises:
        MessageError: the secret is none.
    """

    def __init__(self, parameters: SealParameters, secret: bytes) -> None:
        import tenseal  # noqa: PLC0415

        self._parameters, self._level = parameters, Level.of_ciphertexts(parameters)
        self._load = tenseal.bfv_vector_from
        with _named("key holder: this is no secret key of TenSEAL's"):
            self._context = tenseal.context_from(secret, 1)

    def decrypt(self, residues: Longs) -> Longs:
        """The n slots of one ciphertext, in [0, t); residues uint64[2, primes, n], checked by the caller.

        Raises:
            MessageError: TenSEAL takes no such ciphertext: the key is of other parameters.
        """
        with _named("key holder: the secret key is of other parameters"):
            loaded = self._load(self._context, write_vector([residues], [self._parameters.degree], self._level))
            centred: npt.NDArray[np.int64] = np.array(loaded.decrypt(), np.int64)
        return np.where(centred < 0, centred + self._parameters.plain_modulus, centred).astype(np.uint64)


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """TenSEAL's exceptions, which may quote what they were given, as one sentence of ours."""
    try:
        yield
    except (ValueError, RuntimeError, TypeError):
        raise MessageError(what) from None
