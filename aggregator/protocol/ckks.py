"""Sums of TenSEAL's CKKS vectors, for platforms that make them already: bytes in, bytes out, no key and no SEAL.

What is added is `CKKSVector.serialize()` in the configuration that NVFlare provisions: degree 8192, primes of 60, 40
and 40 bits, scale 2^40, not rescaled; what comes out TenSEAL loads and decrypts with the platform's own secret key.

CKKS decrypts to the message plus its noise, and whoever sees such a result beside the ciphertexts can solve for the
secret key (Li and Micciancio 2021): results must stay with those who may hold the key. Sums are approximate, and
nothing stops a client from sending the negated sum of the others. `homomorphic` has none of this; CKKS is off unless a
task asks for it.

Source: Cheon, Kim, Kim and Song 2017 (eprint 2016/421); Li and Micciancio 2021 (eprint 2020/1533).
"""

from typing import Final

import numpy as np

from aggregator.crypto.seal_format import Level, Longs, read_ciphertext, split_vector, write_vector
from aggregator.crypto.seal_parameters import Scheme, SealParameters
from aggregator.errors import MessageError
from aggregator.protocol.contribution import Octets
from aggregator.protocol.spread import Each
from native import longs

PARAMETERS: Final = SealParameters(Scheme.CKKS, 8192, (60, 40, 40))
SCALE: Final = 2.0**40
SLOTS: Final = PARAMETERS.degree // 2
_LEVEL: Final = Level.of_ciphertexts(PARAMETERS, SCALE)


class Total:
    """The running sum of vectors of `entries` values. Run by the server."""

    def __init__(self, entries: int) -> None:
        blocks = -(-entries // SLOTS)
        self._sizes = [min(SLOTS, entries - start) for start in range(0, entries, SLOTS)]
        self._sums = np.zeros((blocks, *_LEVEL.shape), np.uint64)
        self._primes = np.array(PARAMETERS.primes, np.uint64)

    def add(self, data: Octets, each: Each) -> None:
        """Check and add one client's vector, all of it or nothing; a ciphertext at a time is in memory.

        Raises:
            MessageError: anything but what `serialize()` gives for such a vector; the sum is as it was.
        """
        ciphertexts = list(enumerate(split_vector(data, self._sizes, _LEVEL)))
        refused = list(each(self._add_one, ciphertexts))
        reasons = [reason for reason in refused if reason is not None]
        if reasons:
            for (index, ciphertext), reason in zip(ciphertexts, refused, strict=True):
                if reason is None:
                    longs.subtract(self._sums[index], read_ciphertext(ciphertext, _LEVEL), self._primes)
            raise reasons[0]

    def _add_one(self, numbered: tuple[int, memoryview]) -> MessageError | None:
        """The reason why a ciphertext was not added, so that the others can be taken back."""
        index, ciphertext = numbered
        try:
            residues: Longs = read_ciphertext(ciphertext, _LEVEL)
        except MessageError as error:
            return MessageError(f"ciphertext {index}: {error}")
        if not longs.all_below(residues, self._primes):
            return MessageError(f"ciphertext {index}: a residue is not below its prime")
        longs.add(self._sums[index], residues, self._primes)
        return None

    def serialize(self) -> bytes:
        """The sum as TenSEAL's `ckks_vector_from` loads it, under a context of the platform's key."""
        return write_vector(self._sums, self._sizes, _LEVEL)
