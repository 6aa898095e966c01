"""Lattice mode: the long vector travels as an RLWE ciphertext, and only its key of 4,096 words goes through SecAgg+.

Ring Z_Q[X] / (X^4096 + 1), Q the product of three primes of 24 to 30 bits. Of block j, 4096·p entries:

    c_j = A_j · s + T · e_j + m_j                      run by each client; s once a round, e_j fresh, A_j from ctx1
    Σ c_j - A_j · Σ s = T · Σ e_j + Σ m_j              run by the server, which learns Σ s and nothing else of s

centred and taken mod T, this is Σ m_j exactly, as long as |Σ e_j| <= ERROR_TAIL · std · √n_max.

`layout` says how entries lie in m_j, and how large sums may grow.

Source: Bell et al. 2023 (ACORN, eprint 2022/1461) for the idea; Willow (eprint 2024/936) for Gaussian keys whose sum is
published: a factor of √2 of the width (Hint-LWE), which SECURITY.md's estimate counts in.
"""

from collections.abc import Iterator
from functools import cache
from math import isqrt
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from aggregator.crypto import keystream
from aggregator.errors import MessageError, RoundAborted
from aggregator.protocol.contribution import Blinding, Octets, whole_words
from aggregator.protocol.layout import (
    BLOCKS_TOGETHER,
    DEGREE,
    KEY_BYTES,
    KEY_RING_BITS,
    PRIME_COUNT,
    Layout,
    Modulus,
)
from aggregator.protocol.spread import Each, batches
from native import gaussian, limbs, ntt, rows
from native.gaussian import ERROR_VARIANCE, KEY_VARIANCE
from native.ring import Words, word_dtype
from native.uniform import fill_below

KEY_TAIL: Final = 10  # std, of one client's key: more can't be drawn, see native.gaussian

Residues: TypeAlias = npt.NDArray[np.uint32]
Integers: TypeAlias = npt.NDArray[np.int32]

_KEY_TABLE: Final = gaussian.cumulative_table(KEY_VARIANCE)
_ERROR_TABLE: Final = gaussian.cumulative_table(ERROR_VARIANCE)
BLOCKS_AT_ONCE: Final = 7  # by one thread: each call without the GIL takes 30 µs or more, as long as waking a thread
ROW_WORDS: Final = DEGREE + 256
WORD_BITS: Final = {"A": 32, "key": 64, "error": 64}  # of each purpose's stream


def contribute(x: Words, blind: Blinding, layout: Layout, *, seed: bytes, ctx1: bytes, each: Each) -> memoryview:
    """Make a contribution: the blinded key, then the ciphertexts. Run by the client, once per round.

    Args:
        x: encoded update, shape (entries,), uint32 or uint64, values below 2^v.
        blind: masks words of a ring, as SecAgg+ does with this client's seeds.
        layout: how the vector lies in ciphertexts.
        seed: 32 fresh secret bytes, used for nothing else: key and errors come of it.
        ctx1: the round's second context, 32 bytes.
        each: runs the blocks, perhaps in several threads.

    Returns:
        The bytes to send, as `layout.plan` cuts them.
    """
    key = np.empty(DEGREE, np.int32)
    gaussian.sample(keystream.words(seed, ctx1, "key", DEGREE, WORD_BITS["key"]), _KEY_TABLE, key)
    payload = np.empty(layout.plan.payload_bytes, np.uint8)
    payload[:KEY_BYTES] = blind(key.view(np.uint32), ring_bits=KEY_RING_BITS).view(np.uint8)
    ciphertext = payload[KEY_BYTES:].view(np.uint32)
    factor, slots, form = _Factor(key, layout.modulus), _slots(layout), _rows(layout.modulus)

    def encrypt(group: range) -> None:
        for blocks, products, errors in zip(
            batches(group, BLOCKS_AT_ONCE), factor.times_public(ctx1, group), _errors(seed, ctx1, group), strict=True
        ):
            for run in layout.runs(blocks):
                own, stride = slice(run.start - blocks.start, run.stop - blocks.start), layout.stride(run.start)
                residues = np.ascontiguousarray(products[own, :, :stride])
                limbs.add_message(residues, errors[own], x[layout.words(run)], slots)
                rows.pack(residues.reshape(-1, stride), form, ciphertext[layout.packed_words(run)])

    for _ in each(encrypt, layout.groups):
        pass
    return payload.data


def _errors(seed: bytes, ctx1: bytes, group: range) -> Iterator[Integers]:
    """e_j of each block j of a group, a batch at a time, int32[blocks, 4096]; overwritten by the next batch."""
    words = _stream(seed, ctx1, "error", group, DEGREE)
    errors = np.empty((BLOCKS_AT_ONCE, DEGREE), np.int32)
    for blocks, drawn in zip(batches(group, BLOCKS_AT_ONCE), words, strict=True):
        out = errors[: len(blocks)]
        gaussian.sample(drawn, _ERROR_TABLE, out.reshape(-1))
        yield out


class Total:
    """The running sum of contributions, as they travel: of blinded keys mod 2^32, of ciphertexts mod Q."""

    def __init__(self, layout: Layout) -> None:
        self.plan = layout.plan
        self._layout = layout
        self._clients = 0
        self._key = np.zeros(DEGREE, np.uint32)
        self._ciphertext = np.zeros(layout.ciphertext_residues, np.uint32)
        self._form = _rows(layout.modulus)

    def check(self, index: int, data: Octets) -> None:
        """Refuse residues that are not below their primes. Any words may be a blinded key."""
        if index == 0:
            return
        for packed, size in self._runs(np.frombuffer(data, np.uint32)):
            if not rows.all_below(packed, self._form, size):
                raise MessageError(f"chunk {index}: a residue is not below its prime")

    def add(self, index: int, data: Octets) -> None:
        """Add one checked chunk of a contribution."""
        words = np.frombuffer(data, np.uint32)
        if index == 0:
            self._clients += 1
            self._key += words
            return
        at = (index - 1) * BLOCKS_TOGETHER * PRIME_COUNT * DEGREE
        for packed, size in self._runs(words):
            residues = packed.size // self._layout.modulus.bits * rows.LANE
            rows.add(self._ciphertext[at : at + residues].reshape(-1, size), packed, self._form)
            at += residues

    @property
    def octets(self) -> tuple[Octets, ...]:
        """The blinded key, then the ciphertexts' residues."""
        return self._key.data, self._ciphertext.data

    def restore(self, octets: Octets, contributions: int) -> None:
        """Go on with a key and residues, the sums of so many."""
        words = whole_words(octets, self._key.dtype, DEGREE + self._ciphertext.size)
        self._key[:], self._ciphertext[:] = words[:DEGREE], words[DEGREE:]
        self._clients = contributions

    def open(self, unblind: Blinding, ctx1: bytes, each: Each) -> Words:
        """Decrypt the sum under the sum of the keys. Run by the server, once all seeds are there.

        Raises:
            RoundAborted: what was unmasked is no sum of that many keys.
        """
        key = unblind(self._key, ring_bits=KEY_RING_BITS).view(np.int32)
        most = isqrt(int(KEY_TAIL**2 * KEY_VARIANCE)) * self._clients
        if not -most <= int(key.min()) <= int(key.max()) <= most:
            raise RoundAborted(f"unmasking: what {self._clients} clients blinded is no sum of their lattice keys")
        layout, factor, slots = self._layout, _Factor(key, self._layout.modulus), _slots(self._layout)
        out: Words = np.empty(layout.entries, word_dtype(layout.slot_bits))

        def decrypt(group: range) -> None:
            for blocks, products in zip(batches(group, BLOCKS_AT_ONCE), factor.times_public(ctx1, group), strict=True):
                for run in layout.runs(blocks):
                    own = slice(run.start - blocks.start, run.stop - blocks.start)
                    residues = self._ciphertext[layout.residues(run)].reshape(len(run), PRIME_COUNT, -1).copy()
                    limbs.subtract(residues, np.ascontiguousarray(products[own, :, : residues.shape[2]]), slots.moduli)
                    limbs.recover(residues, out[layout.words(run)], slots)

        for _ in each(decrypt, layout.groups):
            pass
        return out

    def _runs(self, words: Residues) -> Iterator[tuple[Residues, int]]:
        """The ciphertexts of a wire chunk and their stride: whole ones first, then perhaps a shorter one."""
        block_words = self._form.packed_words(DEGREE)
        whole = words.size // block_words * block_words
        if whole:
            yield words[:whole], DEGREE
        if whole < words.size:
            yield words[whole:], self._layout.stride(self._layout.blocks - 1)


@cache
def _basis(modulus: Modulus) -> ntt.Basis:
    return ntt.Basis.of(modulus.primes, modulus.generators, DEGREE)


def _rows(modulus: Modulus) -> rows.Rows:
    return rows.Rows.of(modulus.primes, (modulus.bits,) * PRIME_COUNT)


class _Factor:
    """A key in the transform's domain, ready to be multiplied with every A_j."""

    def __init__(self, key: Integers, modulus: Modulus) -> None:
        self._modulus, self._basis = modulus, _basis(modulus)
        self._values = np.empty((PRIME_COUNT, DEGREE), np.uint32)
        limbs.lift(key, self._values, self._basis.primes)
        ntt.forward(self._values, self._basis)
        self._quotients = ntt.quotients(self._values, self._basis)

    def times_public(self, ctx1: bytes, group: range) -> Iterator[Residues]:
        """A_j · key of each block j of a group, a batch at a time, as coefficients; overwritten by the next batch."""
        for polynomials in public_polynomials(ctx1, group, self._modulus):
            ntt.multiply_inverse(polynomials, self._values, self._quotients, self._basis)
            yield polynomials


def public_polynomials(ctx1: bytes, group: range, modulus: Modulus) -> Iterator[Residues]:
    """A_j of each block j of a group in the transform's domain, uint32[blocks, primes, 4096], a batch at a time.

    Each side makes it from ctx1 alone. A group's stream has a row of 4,352 words for each block and prime; of these,
    cut to the modulus' bits, the first 4,096 that are below the prime are A_j's. At most 1.2 % are not below it, so
    that the 256 spare words fail to do with probability below 2^-300. What is yielded is overwritten by the next batch.

    Raises:
        RoundAborted: they did not do.
    """
    words = _stream(ctx1, ctx1, "A", group, PRIME_COUNT * ROW_WORDS)
    primes, mask = np.array(modulus.primes, np.uint32), 2**modulus.bits - 1
    residues = np.empty((BLOCKS_AT_ONCE, PRIME_COUNT, DEGREE), np.uint32)
    for blocks, drawn in zip(batches(group, BLOCKS_AT_ONCE), words, strict=True):
        out = residues[: len(blocks)]
        if not fill_below(drawn.reshape(len(blocks), PRIME_COUNT, ROW_WORDS), mask, primes, out):
            raise RoundAborted(f"lattice mode: blocks {blocks.start} to {blocks.stop - 1} have no A under this context")
        yield out


def _stream(seed: bytes, ctx1: bytes, purpose: str, group: range, words: int) -> Iterator[Words]:
    """The words of a group, `words` for each block, a batch at a time; all of a group's lie in one PRG chunk."""
    return keystream.pieces(
        seed,
        ctx1,
        purpose,
        len(group) * words,
        WORD_BITS[purpose],
        piece_entries=BLOCKS_AT_ONCE * words,
        vector_chunk=group.start // BLOCKS_TOGETHER,
    )


def _slots(layout: Layout) -> limbs.Slots:
    return limbs.Slots.of(layout.modulus.primes, layout.slot_bits, layout.slots, layout.message_bits)
