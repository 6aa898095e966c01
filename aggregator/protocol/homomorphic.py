"""Homomorphic mode: the vector travels as BFV ciphertexts under a key pair whose secret the server never has.

    key holder  new_keys          a fresh pair for one round: public bytes to publish, a secret to wrap
    client      read_public_key   the key holder's bytes, checked and made ready
                contribute        make a contribution: the bytes to send, as `layout.plan` cuts them
    server      Total             check and add contributions; `packed` gives the sum, in the form of a contribution
    auditor     Total             the same, over the same bytes: its sum is the server's to the bit
    key holder  decrypt           the sum's bytes to words, once

Ring Z_Q[X] / (X^4096 + 1). Under the public key (b, a) = (e - a·s, a) a block m becomes

    (b·u + e0 + round(Q·m / t),  a·u + e1)             u uniform on {-1, 0, 1}, e0 and e1 discrete Gaussians

and sums of such pairs decrypt, with SEAL as with anything that speaks BFV, to the sum of the slots modulo t, which is
exact for up to n_max of them: see `homomorphic_layout`. Encryption is made of the lattice mode's kernels, since
TenSEAL's takes ten times as long (benchmarks/test_homomorphic.py); key pairs and decryption are TenSEAL's.

On the wire a polynomial is a row per prime of 4,096 residues, packed as native.rows has them; a ciphertext is the rows
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

from aggregator.crypto import keystream
from aggregator.crypto.bfv import Decryptor, generate
from aggregator.crypto.seal_parameters import SealParameters, smallest_root
from aggregator.errors import MessageError
from aggregator.protocol.contribution import Octets
from aggregator.protocol.homomorphic_layout import DEGREE, ERROR_VARIANCE, CipherLayout
from aggregator.protocol.spread import Each, batches
from native import batching, bfv, gaussian, ntt, rows
from native.bfv import Recipient
from native.ring import Words, word_dtype

Residues: TypeAlias = npt.NDArray[np.uint32]

_ERROR_TABLE: Final = gaussian.cumulative_table(ERROR_VARIANCE)
_TERNARY_TABLE: Final = np.array([round(Fraction(2**63, 3))])  # |u| is 1 where 63 bits reach it: two times in three
DRAW_BITS: Final = 64
BLOCKS_AT_ONCE: Final = 4  # by one thread, so that a call without the GIL takes 0.6 ms


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
    pair = generate(layout.parameters)
    residues = np.ascontiguousarray(pair.public.reshape(-1, DEGREE), np.uint32)
    return Keys(_packed(residues, layout).tobytes(), pair.secret)


def read_public_key(data: Octets, layout: CipherLayout) -> Recipient:
    """A public key, ready to be encrypted under. Run by the client, once it has checked who signed the bytes.

    Raises:
        MessageError: another length, or a residue that is not below its prime.
    """
    if len(data) != layout.block_bytes:
        raise MessageError(f"public key: {len(data)} bytes, expected {layout.block_bytes}")
    packed, form, basis = np.frombuffer(data, np.uint32), _rows(layout), _basis(layout.parameters)
    if not rows.all_below(packed, form, DEGREE):
        raise MessageError("public key: a residue is not below its prime")
    transforms = np.ascontiguousarray(_unpacked(packed, layout).reshape(2, -1, DEGREE)[:, :, _FROM_SEAL])
    key = np.stack([transforms, np.stack([ntt.quotients(transform, basis) for transform in transforms])])
    return Recipient(basis, _slots(layout), form, key, (_TERNARY_TABLE, _ERROR_TABLE))


def contribute(x: Words, key: Recipient, layout: CipherLayout, *, seed: bytes, ctx0: bytes, each: Each) -> memoryview:
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
    payload = np.empty(layout.plan.payload_bytes // 4, np.uint32)
    u, e = _Draws(seed, ctx0, "ephemeral", DEGREE), _Draws(seed, ctx0, "error", 2 * DEGREE)

    def work(group: range) -> None:
        number = group.start // layout.blocks_together
        drawn = zip(u.of(group, number), e.of(group, number), strict=True)
        for blocks, (ephemeral, errors) in zip(batches(group, BLOCKS_AT_ONCE), drawn, strict=True):
            bfv.encrypt(x[layout.words(blocks)], ephemeral, errors, payload[layout.packed_words(blocks)], key)

    for _ in each(work, layout.groups):
        pass
    return payload.view(np.uint8).data


@dataclass(frozen=True, slots=True)
class _Draws:
    """64-bit draws of one purpose for every block, `words` each."""

    seed: bytes = field(repr=False)
    ctx0: bytes
    purpose: str
    words: int

    def of(self, group: range, number: int) -> Iterator[Words]:
        """The draws of a group, a batch at a time; overwritten by the next batch."""
        return keystream.pieces(
            self.seed,
            self.ctx0,
            self.purpose,
            len(group) * self.words,
            DRAW_BITS,
            piece_entries=BLOCKS_AT_ONCE * self.words,
            vector_chunk=number,
        )


class Total:
    """The running sum of contributions, modulo the primes of ciphertexts. Run by the server, and by the auditor."""

    def __init__(self, layout: CipherLayout) -> None:
        self.plan = layout.plan
        self._layout = layout
        self._form = _rows(layout)
        self._chunk_rows = layout.blocks_together * 2 * len(layout.parameters.primes)
        self._sums = np.zeros((layout.blocks * 2 * len(layout.parameters.primes), DEGREE), np.uint32)

    def check(self, index: int, data: Octets) -> None:
        """Check one chunk on receipt.

        Raises:
            MessageError: a residue is not below its prime; nothing has changed.
        """
        if not rows.all_below(np.frombuffer(data, np.uint32), self._form, DEGREE):
            raise MessageError(f"chunk {index}: a residue is not below its prime")

    def add(self, index: int, data: Octets) -> None:
        """Add one checked chunk of a contribution."""
        start = index * self._chunk_rows
        rows.add(self._sums[start : start + self._chunk_rows], np.frombuffer(data, np.uint32), self._form)

    def packed(self) -> memoryview:
        """The sum in the form of a contribution: what the auditor hashes and the key holder decrypts."""
        return _packed(self._sums, self._layout).view(np.uint8).data


def decrypt(total: Octets, secret: bytes, layout: CipherLayout, *, clients: int) -> Words:
    """Decrypt a sum. Run by the key holder, once per (task, round), on what the auditor signed.

    Every residue is checked; what TenSEAL loads is composed here of the layout's own parameters. So is what it gives:
    a client that sends (0, Q/t·g) for some polynomial g adds s·g to the sum, and whoever knows the other entries of
    that block would read the key of everybody's ciphertexts off the result. s·g is as good as uniform in every slot
    where g is not zero, and at most two in three values of a slot are in range (`homomorphic_layout`), so such a sum,
    like one with more noise than honest clients make, is refused: k slots, which are k equations in 4,096 unknowns,
    get through with probability (2/3)^k.

    Args:
        total: the sum as `Total.packed` gives it.
        secret: of the pair that `new_keys` made.
        layout: how the vector lies in ciphertexts.
        clients: |U|, how many ciphertexts the sum holds, as the auditor signed it.

    Returns:
        The sum of the encoded updates, shape (entries,).

    Raises:
        MessageError: another length, a residue that is not below its prime, a secret that fits no such sum, or
            entries that no sum of that many honest clients has.
    """
    if len(total) != layout.plan.payload_bytes:
        raise MessageError(f"sum: {len(total)} bytes, expected {layout.plan.payload_bytes}")
    packed = np.frombuffer(total, np.uint32)
    if not rows.all_below(packed, _rows(layout), DEGREE):
        raise MessageError("sum: a residue is not below its prime")
    decryptor, most = Decryptor(layout.parameters, secret), clients * ((1 << layout.value_bits) - 1)
    out: Words = np.empty(layout.entries, word_dtype(layout.digit_bits))
    for block in range(layout.blocks):
        one = range(block, block + 1)
        residues = _unpacked(packed[layout.packed_words(one)], layout).reshape(2, -1, DEGREE)
        slots = decryptor.decrypt(residues.astype(np.uint64))
        if not batching.decode(slots, out[layout.words(one)], (layout.digits, layout.digit_bits), most):
            # Not which block: who hears of a refusal learns no more of the key than that there was one.
            raise MessageError(f"sum: it is no sum of {clients} clients' entries: one of them lied")
    return out


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


def _slots(layout: CipherLayout) -> batching.Slots:
    return _tables(layout.parameters, (layout.digits, layout.digit_bits))


@cache
def _tables(parameters: SealParameters, digits: tuple[int, int]) -> batching.Slots:
    plain = parameters.plain_modulus
    return batching.Slots.of(plain, smallest_root(DEGREE, plain), parameters.primes, DEGREE, digits)


def _rows(layout: CipherLayout) -> rows.Rows:
    return rows.Rows.of(layout.parameters.primes, layout.parameters.prime_bits[:-1])


def _packed(residues: Residues, layout: CipherLayout) -> Residues:
    """The words of whole polynomials, uint32[polynomials · primes, 4096]."""
    form = _rows(layout)
    out = np.empty(len(residues) // len(form.primes) * form.packed_words(DEGREE), np.uint32)
    rows.pack(residues, form, out)
    return out


def _unpacked(packed: Residues, layout: CipherLayout) -> Residues:
    """The other way round."""
    form = _rows(layout)
    out = np.empty((packed.size // form.packed_words(DEGREE) * len(form.primes), DEGREE), np.uint32)
    rows.unpack(packed, form, out)
    return out


def _from_seal() -> npt.NDArray[np.int64]:
    """Where each entry of a transform of native.ntt's lies in one of SEAL's, in bit-reversed order."""
    entries = np.arange(DEGREE)
    reverse = np.array([int(f"{entry:012b}"[::-1], 2) for entry in entries])
    half = np.array([int(f"{entry:06b}"[::-1], 2) for entry in range(64)])
    places: npt.NDArray[np.int64] = reverse[half[entries // 64] * 64 + half[entries % 64]]
    return places


_FROM_SEAL: Final = _from_seal()
