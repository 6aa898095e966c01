"""Sums of TenSEAL's CKKS vectors, for platforms that make them already: bytes in, bytes out, no key and no SEAL.

What is added is `CKKSVector.serialize()` in the configuration that NVFlare provisions: degree 8192, primes of 60, 40
and 40 bits, scale 2^40, not rescaled; what comes out TenSEAL loads and decrypts with the platform's own secret key.

CKKS decrypts to the message plus its noise, and whoever sees such a result beside the ciphertexts can solve for the
secret key (Li and Micciancio 2021): results must stay with those who may hold the key. Sums are approximate, and
nothing stops a client from sending the negated sum of the others. `homomorphic` has none of this; CKKS is off unless
whoever runs the server says otherwise (docs/ckks.md).

Source: Cheon, Kim, Kim and Song 2017 (eprint 2016/421); Li and Micciancio 2021 (eprint 2020/1533).
"""

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import Final

import numpy as np

from aggregator.crypto.seal_format import (
    Held,
    Level,
    Longs,
    Source,
    find_ciphertexts,
    read_ciphertext,
    vector_bytes,
    vector_pieces,
)
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
    """The running sum of vectors of `entries` values. Run by the server. Memory: `memory_bytes(entries)`."""

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self._sizes = _sizes(entries)
        self._sums = np.zeros((len(self._sizes), *_LEVEL.shape), np.uint64)
        self._primes = np.array(PARAMETERS.primes, np.uint64)

    def add(self, data: Octets, each: Each) -> None:
        """Check and add one client's vector, all of it or nothing.

        Raises:
            MessageError: anything but what `serialize()` gives for such a vector; the sum is as it was.
        """
        self.add_stored(Held(memoryview(data)), len(data), each)

    def add_stored(self, source: Source, size: int, each: Each) -> None:
        """The same of a vector of `size` bytes that lies elsewhere; a ciphertext for each thread is in memory."""
        places = list(enumerate(find_ciphertexts(source, size, self._sizes, _LEVEL)))
        refused = list(each(partial(self._add_one, source), places))
        reasons = [reason for reason in refused if reason is not None]
        if reasons:
            for (index, place), reason in zip(places, refused, strict=True):
                if reason is None:
                    longs.subtract(self._sums[index], _residues(source, place), self._primes)
            raise reasons[0]

    def _add_one(self, source: Source, numbered: tuple[int, range]) -> MessageError | None:
        """The reason why a ciphertext was not added, so that the others can be taken back."""
        index, place = numbered
        try:
            residues = _residues(source, place)
        except MessageError as error:
            return MessageError(f"ciphertext {index}: {error}")
        if not longs.all_below(residues, self._primes):
            return MessageError(f"ciphertext {index}: a residue is not below its prime")
        longs.add(self._sums[index], residues, self._primes)
        return None

    def pieces(self) -> Iterator[bytes]:
        """The sum as TenSEAL's `ckks_vector_from` loads it, under a context of the platform's key, piece by piece."""
        return vector_pieces(self._sums, self._sizes, _LEVEL)

    def serialize(self) -> bytes:
        """The same in one."""
        return b"".join(self.pieces())


def memory_bytes(entries: int) -> int:
    """What a sum of so many values takes in memory: 64 bytes each, in blocks of 4,096."""
    return -(-entries // SLOTS) * 8 * prod(_LEVEL.shape)


def sum_bytes(entries: int) -> int:
    """Bytes of a serialised sum of so many values."""
    return vector_bytes(_sizes(entries), _LEVEL, _LEVEL.ciphertext_bytes)


def vector_bytes_max(entries: int) -> int:
    """Bytes that no client's vector of so many values exceeds, compressed or not."""
    return vector_bytes(_sizes(entries), _LEVEL, _LEVEL.ciphertext_bytes_max)


def _sizes(entries: int) -> list[int]:
    """Values in each ciphertext: all are full but the last."""
    return [min(SLOTS, entries - start) for start in range(0, entries, SLOTS)]


def _residues(source: Source, place: range) -> Longs:
    return read_ciphertext(source.read(place.start, len(place)), _LEVEL)
