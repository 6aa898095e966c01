"""Floats to words of the ring and back: clip, weight, rotate, round stochastically, offset; and what the sum means.

    q = floor(y) + [r < frac(y)],  y = x · (weight / weight_max) / scale of x's tensor,  clamped to [-Z, Z], plus Z
    the weight follows as limbs of `value_bits`, exact, without offset

The sum is an integer per entry, the same whatever the order of arrival. |U|·Z comes off, then steps become values.
A rotation mixes the y of 4,096 entries, of whichever tensors: each has been measured in its own tensor's steps before,
and is given back in them, so that a small tensor beside a large one keeps its own accuracy.

Vectors may be long: they are worked through in blocks, which `each` may spread over threads, and a block in pieces that
stay in cache. Beside what comes in and what goes out there are at most 1.3 MB per thread, at any length.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, repeat
from math import prod, sqrt
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aggregator.crypto import keystream
from aggregator.errors import ParameterError, RoundAborted
from aggregator.protocol.parameters import Parameters
from aggregator.protocol.row import Row
from aggregator.protocol.runs import Runs
from aggregator.protocol.spread import Each
from native.hadamard import flip, walsh_hadamard
from native.quantize import first_non_finite, quantize
from native.ring import word_dtype

Floats: TypeAlias = npt.NDArray[np.float64]
RingVector: TypeAlias = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
Draws: TypeAlias = npt.NDArray[np.uint64]
Update: TypeAlias = Mapping[str, npt.ArrayLike]
Signs: TypeAlias = npt.NDArray[np.uint32]

DRAW_BYTES = 8  # of the stream "rounding", per entry
SIGN_BYTES = 4  # of the stream "rotation", per entry; one bit counts

PIECE_ENTRIES = 1 << 16
"""Worked on at once, whole rotation blocks. The draws are 512 KiB, which a second-level cache of 1 MiB holds. For 10^6
entries two threads take 0.55 of one thread's time; with 1 << 14 they take 0.75, for waking each other."""

ROUNDINGS = 8
"""Of float64 on an entry's way from the update to the mean, without a rotation: weight / weight_max, / scale, times x;
the sum's steps, the sum of weights, weight_max times scale, / sum of weights, times the steps."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One client's update as words of the ring, shape (L,), before any mask; and how many entries were clipped."""

    words: RingVector
    clipped_entries: int

    def __repr__(self) -> str:
        return f"Encoded(entries={self.words.size}, clipped_entries={self.clipped_entries})"


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The sum's meaning: the weighted mean per tensor, the weights' exact sum, and the error of each mean entry.

    `error_bounds` are by tensor, in the update's unit; they hold for every entry that no client had to clip, with a
    rotation for every entry in whose block of 4,096 no client had to.
    """

    mean: Mapping[str, Floats]
    total_weight: int
    error_bounds: Mapping[str, float]

    @property
    def error_bound(self) -> float:
        """The largest of them."""
        return max(self.error_bounds.values())


def encode(
    update: Update, weight: int, parameters: Parameters, ctx0: bytes, rounding_seed: bytes, *, each: Each = map
) -> Encoded:
    """Encode one update. Run by the client, once per round: a second rounding of the same data would leak.

    Args:
        update: arrays by tensor name; names and shapes as in `parameters`, real and finite.
        weight: number of samples behind the update, 1 to weight_max.
        parameters: the round's encoding.
        ctx0: the round's first context, 32 bytes; decides the rotation.
        rounding_seed: 32 fresh secret bytes; decides the rounding.
        each: what the blocks are spread with.

    Raises:
        ParameterError: names, shapes or the weight do not fit, or an entry is not finite (tensor and index named).
    """
    if isinstance(weight, bool) or not isinstance(weight, int | np.integer):
        raise ParameterError(f"the weight is a {type(weight).__name__}, it must be an integer number of samples")
    if not 1 <= weight <= parameters.weight_max:
        raise ParameterError(f"the weight is not among the 1 to {parameters.weight_max} that this task allows")
    row = Row.of(update, parameters.tensors)
    limbs = _limbs(int(weight), parameters)
    coded = parameters.coded_entries
    words: RingVector = np.empty(coded + len(limbs), word_dtype(parameters.ring_bits))
    words[coded:] = limbs
    factor = int(weight) / parameters.weight_max
    ratios = Runs.of(row.tensors, [factor / scale for scale in parameters.scales], coded)
    job = _Encoding(row, ratios, parameters, parameters.rotation_block, ctx0, rounding_seed, words[:coded])
    clipped, bad = 0, -1
    for more, index in each(job.block, range(0, coded, _block_entries(parameters))):
        clipped += more
        bad = index if bad < 0 else bad
    if bad >= 0:
        raise ParameterError("tensor {!r} is not finite at index {}".format(*row.locate(bad)))
    return Encoded(words, clipped)


def decode(total: RingVector, participants: int, parameters: Parameters, ctx0: bytes, *, each: Each = map) -> Decoded:
    """Decode a round's sum. Run by whoever receives the result.

    Args:
        total: sum of the participants' encoded words, shape (L,), unmasked.
        participants: |U|, clients in the sum.
        parameters: the round's encoding.
        ctx0: the round's first context, 32 bytes.
        each: what the blocks are spread with.

    Raises:
        RoundAborted: the sum cannot have come from that many clients (wrong mask, wrong context, a lying server).
    """
    coded = _in_range(total, participants, parameters)
    total_weight = _join_limbs(total[coded.size :], participants, parameters)
    units = [scale * parameters.weight_max / total_weight for scale in parameters.scales]
    mean = np.empty(coded.size)
    runs = Runs.of(parameters.tensors, units, coded.size)
    offset = participants * parameters.zero_point
    job = _Decoding(coded, offset, runs, parameters, parameters.rotation_block, ctx0, mean)
    list(each(job.block, range(0, coded.size, _block_entries(parameters))))
    steps = _error_steps(participants, parameters)
    bounds = {tensor.name: unit * steps for tensor, unit in zip(parameters.tensors, units, strict=True)}
    return Decoded(_unflatten(mean, parameters), total_weight, bounds)


def _block_entries(parameters: Parameters) -> int:
    """Blocks start where a PRG chunk of the rounding draws does and, if there are any, of the signs."""
    return keystream.CHUNK_BYTES // (SIGN_BYTES if parameters.rotate else DRAW_BYTES)


@dataclass(frozen=True, slots=True, eq=False)
class _Encoding:
    """One update on its way into `words`; blocks write different entries."""

    row: Row
    ratios: Runs
    parameters: Parameters
    rotation_block: int
    ctx0: bytes
    rounding_seed: bytes = field(repr=False)
    words: RingVector = field(repr=False)

    def block(self, start: int) -> tuple[int, int]:
        """Encode the block that starts there: the number of entries clipped, and the first not finite, or -1."""
        spec, clipped = self.parameters, 0
        entries = min(_block_entries(spec), self.words.size - start)
        chunk = start * DRAW_BYTES // keystream.CHUNK_BYTES
        draws = keystream.pieces(
            self.rounding_seed, self.ctx0, "rounding", entries, 64, piece_entries=PIECE_ENTRIES, first_chunk=chunk
        )
        signs = _signs(self.ctx0, start, entries) if spec.rotate else repeat(None)
        room = np.empty(min(PIECE_ENTRIES, entries))
        for draw, sign, at in zip(draws, signs, count(start, PIECE_ENTRIES), strict=False):
            more, bad = self._piece(at, draw, sign, room)
            if bad >= 0:
                return 0, at + bad
            clipped += more
        return clipped, -1

    def _piece(self, at: int, draws: Draws, signs: Signs | None, room: Floats) -> tuple[int, int]:
        spec, stop = self.parameters, at + draws.size
        values, words = self.row.read(at, stop, room), self.words[at:stop]
        ratio = self.ratios.shared(at, stop)
        if signs is None and ratio is not None:
            return quantize(values, ratio, spec.zero_point, draws, words)
        bad = first_non_finite(values)
        steps = room[: draws.size]
        self.ratios.multiply(at, values, steps)
        if signs is not None:
            flip(steps, signs)
            walsh_hadamard(steps, self.rotation_block)
        # Finite entries may overflow in the product or the rotation: that is clipped, like all that is too large.
        return quantize(steps, 1.0, spec.zero_point, draws, words)[0], bad


def _signs(ctx0: bytes, start: int, entries: int) -> Iterator[Signs]:
    """The rotation's signs of a block, piece by piece: negative where the word is 1."""
    chunk = start * SIGN_BYTES // keystream.CHUNK_BYTES
    return keystream.pieces(ctx0, ctx0, "rotation", entries, 1, piece_entries=PIECE_ENTRIES, first_chunk=chunk)


def _in_range(total: RingVector, participants: int, parameters: Parameters) -> RingVector:
    """The entries of the sum that were quantised."""
    coded = total[: parameters.coded_entries]
    if coded.size and int(coded.max()) > 2 * participants * parameters.zero_point:
        raise RoundAborted(f"the sum of {participants} clients is out of range: it was not unmasked rightly")
    return coded


@dataclass(frozen=True, slots=True, eq=False)
class _Decoding:
    """A sum on its way into `mean`; blocks write different entries."""

    coded: RingVector
    offset: int
    units: Runs
    parameters: Parameters
    rotation_block: int
    ctx0: bytes
    mean: Floats

    def block(self, start: int) -> None:
        """Decode the block that starts there."""
        spec, stop = self.parameters, min(start + _block_entries(self.parameters), self.mean.size)
        signs = _signs(self.ctx0, start, stop - start) if spec.rotate else repeat(None)
        for at, sign in zip(range(start, stop, PIECE_ENTRIES), signs, strict=False):
            end = min(at + PIECE_ENTRIES, stop)
            steps, mean = self.coded[at:end].astype(np.int64), self.mean[at:end]
            steps -= self.offset
            if sign is None:
                self.units.multiply(at, steps, mean)
                continue
            np.copyto(mean, steps)
            walsh_hadamard(mean, self.rotation_block)
            flip(mean, sign)
            self.units.multiply(at, mean, mean)


def _unflatten(flat: Floats, parameters: Parameters) -> dict[str, Floats]:
    tensors, start = {}, 0
    for tensor in parameters.tensors:
        size = prod(tensor.shape)
        tensors[tensor.name] = flat[start : start + size].reshape(tensor.shape)
        start += size
    return tensors


def _limbs(weight: int, parameters: Parameters) -> list[int]:
    bits = parameters.value_bits
    return [(weight >> (bits * i)) & (2**bits - 1) for i in range(parameters.weight_limbs)]


def _join_limbs(limbs: RingVector, participants: int, parameters: Parameters) -> int:
    weight = sum(int(limb) << (parameters.value_bits * i) for i, limb in enumerate(limbs))
    if not participants <= weight <= participants * parameters.weight_max:
        raise RoundAborted(f"the weights of {participants} clients sum to {weight}: the sum was not unmasked rightly")
    return weight


def _error_steps(participants: int, parameters: Parameters) -> float:
    """How far one entry's sum may be off, in the steps of its tensor.

    Rounding moves each client's entry by less than a step. Where blocks of B entries were rotated, the sum's errors E,
    each below the number of clients n, are turned back by an orthonormal matrix with entries of ±1/√B: what arrives at
    one entry is at most Σ|E|/√B <= n·√B steps. All of a block are in steps until then; only afterwards does an entry
    become a value, by its own tensor's scale: so the bound of each tensor is this number of its own steps.

    Floats add one part in 2^53 of Z·√B steps for each rounding: a block's vector is as long before the rotation as
    after it, where no entry exceeds Z. A transform rounds once per doubling, and three times for 1/√B. The 2 is for the
    roundings of the bound itself.
    """
    block = parameters.rotation_block
    roundings = ROUNDINGS + 2 * (block.bit_length() + 2) * (block > 1)
    return participants * (1.0 + roundings * 2.0**-53 * (parameters.zero_point + 2)) * sqrt(block)
