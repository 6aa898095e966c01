"""Pairwise masks that cancel in the sum: the oldest mode, and the oracle of the others.

Source: Bonawitz et al. 2017 (eprint 2017/281), Fig. 4; Bell et al. 2020 (eprint 2020/704).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from aggregator.crypto.keystream import Mask, apply_masks
from aggregator.errors import MessageError, ParameterError
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.contribution import Blinding, Octets, whole_words
from aggregator.protocol.encoding import RingVector
from aggregator.protocol.spread import Each
from aggregator.wire.chunks import WordPlan
from native import ring
from native.pack import pack, padding_is_zero, unpack
from native.ring import Words


def mask_input(
    x: Words, self_seed: bytes, pairwise: Mapping[ClientId, bytes], me: ClientId, *, ctx1: bytes, ring_bits: int
) -> RingVector:
    """Blind one encoded update. Run by the client in masked-input collection.

        y_u = x_u + PRG(b_u) + sum_{h<u} PRG(s_uh) - sum_{h>u} PRG(s_uh)   (mod 2**ring_bits)

    Args:
        x: encoded update, shape (entries,), uint32 or uint64, values in the ring.
        self_seed: b_u, 32 bytes, fresh for this round.
        pairwise: s_uh by neighbour, 32 bytes each; must not contain `me`.
        me: u.
        ctx1: the round's second context, 32 bytes.
        ring_bits: w.

    Returns:
        y_u, shape (entries,), x's dtype; a new array.

    Raises:
        ParameterError: a seed is not 32 bytes, or `me` is its own neighbour.

    Source: Bonawitz et al. 2017, Fig. 4, Round 2.
    """
    if me in pairwise:
        raise ParameterError(f"client {me} is its own neighbour")
    masks = [Mask(self_seed, "self", 1)]
    masks += [Mask(seed, "pair", _sign(me, h)) for h, seed in sorted(pairwise.items())]
    y = x.copy()
    apply_masks(y, masks, ctx1, ring_bits)
    return y


def unmask(
    total: RingVector,
    self_seeds: Mapping[ClientId, bytes],
    dangling: Mapping[tuple[ClientId, ClientId], bytes],
    *,
    ctx1: bytes,
    ring_bits: int,
) -> RingVector:
    """Take the survivors' masks off their sum. Run by the server after unmasking.

    Args:
        total: sum of the survivors' masked inputs, shape (entries,), uint32 or uint64.
        self_seeds: b_u of every survivor, 32 bytes each.
        dangling: s_uh by (survivor u, dropped neighbour h): the masks that nothing cancelled.
        ctx1: the round's second context, 32 bytes.
        ring_bits: w.

    Returns:
        The sum of the survivors' encoded updates, shape (entries,); a new array.

    Source: Bonawitz et al. 2017, Fig. 4, Round 4.
    """
    masks = [Mask(seed, "self", -1) for _, seed in sorted(self_seeds.items())]
    masks += [Mask(seed, "pair", -_sign(u, h)) for (u, h), seed in sorted(dangling.items())]
    unmasked = total.copy()
    apply_masks(unmasked, masks, ctx1, ring_bits)
    return unmasked


def _sign(u: ClientId, h: ClientId) -> int:
    """The sign with which u's input holds the mask that it shares with h."""
    return 1 if h < u else -1


@dataclass(frozen=True, slots=True)
class Masking:
    """One client's `mask_input`, its seeds at hand."""

    self_seed: bytes = field(repr=False)
    pairwise: Mapping[ClientId, bytes] = field(repr=False)
    me: ClientId
    ctx1: bytes

    def __call__(self, words: Words, *, ring_bits: int) -> Words:
        """The words under this client's masks."""
        return mask_input(words, self.self_seed, self.pairwise, self.me, ctx1=self.ctx1, ring_bits=ring_bits)


@dataclass(frozen=True, slots=True)
class Unmasking:
    """The server's `unmask`, its seeds at hand."""

    self_seeds: Mapping[ClientId, bytes] = field(repr=False)
    dangling: Mapping[tuple[ClientId, ClientId], bytes] = field(repr=False)
    ctx1: bytes

    def __call__(self, words: Words, *, ring_bits: int) -> Words:
        """The sum without its masks."""
        return unmask(words, self.self_seeds, self.dangling, ctx1=self.ctx1, ring_bits=ring_bits)


def contribute(x: RingVector, blind: Blinding, ring_bits: int) -> memoryview:
    """Make a contribution: the blinded vector, packed. Run by the client, once per round."""
    return pack(blind(x, ring_bits=ring_bits), ring_bits).data


class Total:
    """The running sum of blinded vectors, mod 2^ring_bits."""

    def __init__(self, plan: WordPlan, entries: int) -> None:
        self._plan = plan
        self._words: RingVector = np.zeros(entries, ring.word_dtype(plan.word_bits))
        self._room: RingVector = np.empty(min(plan.chunk_words, entries), self._words.dtype)

    def check(self, index: int, data: Octets) -> None:
        """The last byte may be wider than the last word: what is beyond the ring must be zero."""
        entries = self._words[self._plan.words(index)].size
        if not padding_is_zero(np.frombuffer(data, np.uint8), entries, self._plan.word_bits):
            raise MessageError(f"chunk {index}: bits beyond the last word of the ring")

    def add(self, index: int, data: Octets) -> None:
        """Add one checked chunk of a contribution."""
        target = self._words[self._plan.words(index)]
        words = self._room[: target.size]
        unpack(np.frombuffer(data, np.uint8), self._plan.word_bits, words)
        ring.add(target, words)

    @property
    def octets(self) -> tuple[Octets, ...]:
        """The words."""
        return (self._words.data,)

    def restore(self, octets: Octets, contributions: int) -> None:
        """Go on with these words."""
        self._words[:] = whole_words(octets, self._words.dtype, self._words.size)

    def open(self, unblind: Blinding, ctx1: bytes, each: Each) -> Words:
        """Take the masks off. Run by the server, once all seeds are there."""
        return unblind(self._words, ring_bits=self._plan.word_bits)
