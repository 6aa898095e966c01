"""Homomorphic mode: the vector travels as BFV ciphertexts under a key pair whose secret the server never has.

    key holder  new_keys       a fresh pair for one round: public bytes to publish, a secret to wrap
    client      contribute     make a contribution: the bytes to send, as `layout.plan` cuts them
    server      Total          check and add contributions; `packed` gives the sum, in the form of a contribution
    auditor     Total          the same, over the same bytes: its sum is the server's to the bit
    key holder  decrypt        the sum's bytes to words, once

Ring Z_Q[X] / (X^4096 + 1). Under the public key (b, a) = (e - a·s, a) a block m becomes

    (b·u + e0 + round(Q·m / t),  a·u + e1)             u uniform on {-1, 0, 1}, e0 and e1 discrete Gaussians

and sums of such pairs decrypt, with SEAL as with anything that speaks BFV, to the sum of the slots modulo t, which is
exact for up to n_max of them: see `homomorphic_layout`. Encryption is made of the lattice mode's kernels, since
TenSEAL's takes ten times as long (benchmarks/test_homomorphic.py); key pairs and decryption are TenSEAL's.

On the wire a polynomial is a row per prime of 4,096 residues, bit-packed at the prime's width; a ciphertext is the rows
of its two polynomials. A public key has that form too, its polynomials by values in SEAL's order.

Source: Fan and Vercauteren 2012 (eprint 2012/144); Brakerski 2012 (eprint 2012/078).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from aggregator.crypto import bfv, keystream
from aggregator.crypto.seal_parameters import SealParameters, smallest_root
from aggregator.errors import MessageError
from aggregator.protocol.contribution import Octets
from aggregator.protocol.homomorphic_layout import DEGREE, ERROR_VARIANCE, CipherLayout
from aggregator.protocol.spread import Each
from native import batching, gaussian, limbs, ntt
from native.pack import pack, packed_bytes, unpack
from native.ring import Words, word_dtype

Residues: TypeAlias = npt.NDArray[np.uint32]
Integers: TypeAlias = npt.NDArray[np.int32]

_ERROR_TABLE: Final = gaussian.cumulative_table(ERROR_VARIANCE)
_TERNARY_TABLE: Final = np.array([round(Fraction(2**63, 3))])  # |u| is 1 where 63 bits reach it: two times in three
_DRAW_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Keys:
    """A key pair of one round: `public` as it travels, `secret` to be wrapped, used once and destroyed."""

    public: bytes = field(repr=False)
    secret: bytes = field(repr=False)


def new_keys(layout: CipherLayout) -> Keys:
    """Make a fresh key pair. Run by the key holder when a round opens.

    Raises:
        ParameterError: TenSEAL takes no such parameters.
    """
    pair = bfv.generate(layout.parameters)
    rows = np.ascontiguousarray(pair.public.reshape(-1, DEGREE), np.uint32)
    return Keys(_packed(rows, layout), pair.secret)


@dataclass(frozen=True, slots=True, eq=False)
class PublicKey:
    """A public key in the transform's domain, ready to be multiplied with; made by `PublicKey.read`.

    values: uint32[2, primes, 4096], of b and of a. quotients: Shoup's, of each.
    """

    values: Residues = field(repr=False)
    quotients: tuple[Residues, Residues] = field(repr=False)

    @classmethod
    def read(cls, data: Octets, layout: CipherLayout) -> "PublicKey":
        """From a key holder's bytes. Run by the client, once it has checked who signed them.

        Raises:
            MessageError: another length, or a residue that is not below its prime.
        """
        if len(data) != layout.block_bytes:
            raise MessageError(f"public key: {len(data)} bytes, expected {layout.block_bytes}")
        rows = _unpacked(np.frombuffer(data, np.uint8), layout)
        if not limbs.all_below(rows, _moduli(layout.parameters, 2)):
            raise MessageError("public key: a residue is not below its prime")
        basis = _basis(layout.parameters)
        values = np.ascontiguousarray(rows.reshape(2, -1, DEGREE)[:, :, _FROM_SEAL])
        return cls(values, (ntt.quotients(values[0], basis), ntt.quotients(values[1], basis)))


def contribute(x: Words, key: PublicKey, layout: CipherLayout, *, seed: bytes, ctx0: bytes, each: Each) -> memoryview:
    """Make a contribution. Run by the client, once per round.

    Args:
        x: encoded update, shape (entries,), uint32 or uint64, values below 2^v.
        key: the round's public key.
        layout: how the vector lies in ciphertexts.
        seed: 32 fresh secret bytes, used for nothing else: u and the errors come of it.
        ctx0: the round's context, 32 bytes.
        each: runs the blocks, perhaps in several threads.

    Returns:
        The bytes to send, as `layout.plan` cuts them.
    """
    payload = np.empty(layout.plan.payload_bytes, np.uint8)
    encrypt = _Encryption(key, layout)

    def work(group: range) -> None:
        ephemerals, errors = (_stream(seed, ctx0, purpose, layout, group) for purpose in ("ephemeral", "error"))
        for block, u, e in zip(group, ephemerals, errors, strict=True):
            rows = encrypt(x[layout.words(block)], u, e)
            payload[layout.octets(block)] = np.frombuffer(_packed(rows, layout), np.uint8)

    for _ in each(work, layout.groups):
        pass
    return payload.data


def _stream(seed: bytes, ctx0: bytes, purpose: str, layout: CipherLayout, group: range) -> Iterator[Words]:
    """64-bit draws of a group of blocks, a block at a time; overwritten by the next block."""
    words = DEGREE * (2 if purpose == "error" else 1)
    return keystream.pieces(
        seed,
        ctx0,
        purpose,
        len(group) * words,
        _DRAW_BITS,
        piece_entries=words,
        vector_chunk=group.start // layout.blocks_together,
    )


class _Encryption:
    """Encrypts block by block under one key; threads share it, so it writes nothing that it keeps."""

    def __init__(self, key: PublicKey, layout: CipherLayout) -> None:
        self._key = key
        self._basis, self._slots = _basis(layout.parameters), _slots(layout.parameters, layout.digit_bits)

    def __call__(self, words: Words, ephemeral_draws: Words, error_draws: Words) -> Residues:
        """The rows of one ciphertext, uint32[2·primes, 4096]."""
        primes = self._basis.primes
        u, errors = np.empty(DEGREE, np.int32), np.empty((2, DEGREE), np.int32)
        gaussian.sample(ephemeral_draws, _TERNARY_TABLE, u)
        gaussian.sample(error_draws, _ERROR_TABLE, errors.reshape(-1))
        products = np.empty((2, len(primes), DEGREE), np.uint32)
        limbs.lift(u, products[0], primes)
        ntt.forward(products[0], self._basis)
        products[1] = products[0]
        for polynomial in range(2):
            factor, quotients = self._key.values[polynomial], self._key.quotients[polynomial]
            ntt.multiply_inverse(products[polynomial : polynomial + 1], factor, quotients, self._basis)
        scaled = np.empty(DEGREE, np.uint64)
        batching.encode(words, scaled, self._slots)
        batching.add_message(products[0], errors[0], scaled, self._slots)
        lifted = np.empty((len(primes), DEGREE), np.uint32)
        limbs.lift(errors[1], lifted, primes)
        limbs.add(products[1], lifted, primes)
        return products.reshape(-1, DEGREE)


class Total:
    """The running sum of contributions, modulo the primes of ciphertexts. Run by the server, and by the auditor."""

    def __init__(self, layout: CipherLayout) -> None:
        self.plan = layout.plan
        self._layout = layout
        self._moduli = _moduli(layout.parameters, 2 * layout.blocks_together)
        self._rows = np.zeros((layout.blocks * len(layout.widths), DEGREE), np.uint32)

    def check(self, index: int, data: Octets) -> None:
        """Check one chunk on receipt.

        Raises:
            MessageError: a residue is not below its prime; nothing has changed.
        """
        rows = _unpacked(np.frombuffer(data, np.uint8), self._layout)
        if not limbs.all_below(rows, self._moduli[: len(rows)]):
            raise MessageError(f"chunk {index}: a residue is not below its prime")

    def add(self, index: int, data: Octets) -> None:
        """Add one checked chunk of a contribution."""
        rows = _unpacked(np.frombuffer(data, np.uint8), self._layout)
        start = index * self._layout.blocks_together * len(self._layout.widths)
        limbs.add(self._rows[start : start + len(rows)], rows, self._moduli[: len(rows)])

    def packed(self) -> memoryview:
        """The sum in the form of a contribution: what the auditor hashes and the key holder decrypts."""
        return memoryview(_packed(self._rows, self._layout))


def decrypt(total: Octets, secret: bytes, layout: CipherLayout) -> Words:
    """Decrypt a sum. Run by the key holder, once per (task, round), on what the auditor signed.

    Every residue is checked; what TenSEAL loads is composed here of the layout's own parameters.

    Returns:
        The sum of the encoded updates, shape (entries,).

    Raises:
        MessageError: another length, a residue that is not below its prime, or a secret that fits no such sum.
    """
    if len(total) != layout.plan.payload_bytes:
        raise MessageError(f"sum: {len(total)} bytes, expected {layout.plan.payload_bytes}")
    octets = np.frombuffer(total, np.uint8)
    decryptor, moduli = bfv.Decryptor(layout.parameters, secret), _moduli(layout.parameters, 2)
    out: Words = np.empty(layout.entries, word_dtype(layout.digit_bits))
    for block in range(layout.blocks):
        rows = _unpacked(octets[layout.octets(block)], layout)
        if not limbs.all_below(rows, moduli):
            raise MessageError(f"sum: ciphertext {block} has a residue that is not below its prime")
        slots = decryptor.decrypt(rows.astype(np.uint64).reshape(2, -1, DEGREE))
        batching.decode(slots, out[layout.words(block)], layout.digit_bits)
    return out


def _packed(rows: Residues, layout: CipherLayout) -> bytes:
    """The rows of whole ciphertexts, each at its width."""
    widths = layout.widths
    return b"".join([pack(row, widths[index % len(widths)]).data for index, row in enumerate(rows)])


def _unpacked(octets: npt.NDArray[np.uint8], layout: CipherLayout) -> Residues:
    """The rows of whole ciphertexts; as many as there are bytes for."""
    widths = layout.widths
    rows = np.empty((len(octets) // layout.block_bytes * len(widths), DEGREE), np.uint32)
    start = 0
    for index, row in enumerate(rows):
        width = widths[index % len(widths)]
        stop = start + packed_bytes(DEGREE, width)
        unpack(octets[start:stop], width, row)
        start = stop
    return rows


@cache
def _basis(parameters: SealParameters) -> ntt.Basis:
    return ntt.Basis.of(parameters.primes, [_generator(prime) for prime in parameters.primes], DEGREE)


def _generator(prime: int) -> int:
    """g with g^((prime - 1) / 8192) the root that SEAL uses, so that values lie at the same points."""
    wanted, exponent = smallest_root(DEGREE, prime), (prime - 1) // (2 * DEGREE)
    # (g^k)^exponent = ψ^k for odd k: whatever root a g gives, a power of g gives SEAL's.
    base = next(g for g in range(2, prime) if pow(g, exponent * DEGREE, prime) == prime - 1)
    root = power = pow(base, exponent, prime)
    square, odd = root * root % prime, 1
    while power != wanted:
        power, odd = power * square % prime, odd + 2
    return pow(base, odd, prime)


@cache
def _slots(parameters: SealParameters, digit_bits: int) -> batching.Slots:
    plain = parameters.plain_modulus
    return batching.Slots.of(plain, smallest_root(DEGREE, plain), parameters.primes, DEGREE, digit_bits)


@cache
def _moduli(parameters: SealParameters, polynomials: int) -> Residues:
    moduli = np.tile(np.array(parameters.primes, np.uint32), polynomials)
    moduli.flags.writeable = False
    return moduli


def _from_seal() -> npt.NDArray[np.int64]:
    """Where each entry of a transform of native.ntt's lies in one of SEAL's, in bit-reversed order."""
    entries = np.arange(DEGREE)
    reverse = np.array([int(f"{entry:012b}"[::-1], 2) for entry in entries])
    half = np.array([int(f"{entry:06b}"[::-1], 2) for entry in range(64)])
    places: npt.NDArray[np.int64] = reverse[half[entries // 64] * 64 + half[entries % 64]]
    return places


_FROM_SEAL: Final = _from_seal()
