"""Floats to words of the ring and back: clip, weight, rotate, round stochastically, offset; and what the sum means.

    q = floor(y) + [r < frac(y)],  y = x · (weight / weight_max) / scale,  clamped to [-Z, Z], plus Z
    the weight follows as limbs of `value_bits`, exact, without offset

The sum is an integer per entry, the same whatever the order of arrival. |U|·Z comes off, then steps become values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aggregator.crypto import keystream
from aggregator.errors import ParameterError, RoundAborted
from aggregator.protocol.parameters import Parameters
from native.hadamard import walsh_hadamard
from native.quantize import first_non_finite, quantize
from native.ring import word_dtype

Floats: TypeAlias = npt.NDArray[np.float64]
RingVector: TypeAlias = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
Update: TypeAlias = Mapping[str, npt.ArrayLike]

FLOAT_SLACK = 2.0**-50  # relative error of the few float64 operations on the way, generously


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

    `error_bound` is in the update's unit; it holds for every entry that no client had to clip.
    """

    mean: Mapping[str, Floats]
    total_weight: int
    error_bound: float


def encode(update: Update, weight: int, parameters: Parameters, ctx0: bytes, rounding_seed: bytes) -> Encoded:
    """Encode one update. Run by the client, once per round: a second rounding of the same data would leak.

    Args:
        update: arrays by tensor name; names and shapes as in `parameters`, real and finite.
        weight: number of samples behind the update, 1 to weight_max.
        parameters: the round's encoding.
        ctx0: the round's first context, 32 bytes; decides the rotation.
        rounding_seed: 32 fresh secret bytes; decides the rounding.

    Raises:
        ParameterError: names, shapes or the weight do not fit, or an entry is not finite (tensor and index named).
    """
    if isinstance(weight, bool) or not isinstance(weight, int | np.integer):
        raise ParameterError(f"the weight is a {type(weight).__name__}, it must be an integer number of samples")
    if not 1 <= weight <= parameters.weight_max:
        raise ParameterError(f"the weight is {weight}, this task allows 1 to {parameters.weight_max}")
    values = _flatten(update, parameters) * (int(weight) / parameters.weight_max)
    if parameters.rotate:
        values = _rotate(values, parameters, ctx0)
    words = np.empty(parameters.entries, word_dtype(parameters.ring_bits))
    draws = keystream.words(rounding_seed, ctx0, "rounding", values.size, 64)
    coded = parameters.coded_entries
    clipped = quantize(values, parameters.scale, parameters.zero_point, draws, words[:coded])
    words[coded:] = _limbs(int(weight), parameters)
    return Encoded(words, clipped)


def decode(total: RingVector, participants: int, parameters: Parameters, ctx0: bytes) -> Decoded:
    """Decode a round's sum. Run by whoever receives the result.

    Args:
        total: sum of the participants' encoded words, shape (L,), unmasked.
        participants: |U|, clients in the sum.
        parameters: the round's encoding.
        ctx0: the round's first context, 32 bytes.

    Raises:
        RoundAborted: the sum cannot have come from that many clients (wrong mask, wrong context, a lying server).
    """
    coded = parameters.coded_entries
    steps = quantised_sum(total, participants, parameters)
    total_weight = _join_limbs(total[coded:], participants, parameters)
    mean = steps * np.float64(parameters.scale * parameters.weight_max / total_weight)
    if parameters.rotate:
        mean = _rotate_back(mean, parameters, ctx0)
    return Decoded(_unflatten(mean, parameters), total_weight, _error_bound(participants, total_weight, parameters))


def quantised_sum(total: RingVector, participants: int, parameters: Parameters) -> npt.NDArray[np.int64]:
    """The sum of the quantised entries in steps of `scale`, shape (coded_entries,), int64, exact.

    Raises:
        RoundAborted: an entry exceeds what that many clients can add up to.
    """
    steps = total[: parameters.coded_entries].astype(np.int64) - participants * parameters.zero_point
    most = participants * parameters.zero_point
    if steps.size and not -most <= int(steps.min()) <= int(steps.max()) <= most:
        raise RoundAborted(f"the sum of {participants} clients is out of range: it was not unmasked rightly")
    return steps


def _flatten(update: Update, parameters: Parameters) -> Floats:
    wanted = {tensor.name for tensor in parameters.tensors}
    if not all(isinstance(name, str) for name in update):
        raise ParameterError("the update's names are not all text")
    if set(update) != wanted:
        missing, surplus = sorted(wanted - set(update)), sorted(set(update) - wanted)
        raise ParameterError(f"the update's tensors do not fit the task: missing {missing}, surplus {surplus}")
    parts = [_real(tensor.name, tensor.shape, update[tensor.name]) for tensor in parameters.tensors]
    padding = np.zeros(parameters.coded_entries - parameters.tensor_entries)
    return np.concatenate([*parts, padding])


def _real(name: str, shape: tuple[int, ...], values: npt.ArrayLike) -> Floats:
    try:
        array = np.asarray(values)
    except ValueError:
        raise ParameterError(f"tensor {name!r} is not a regular array of numbers") from None
    if array.dtype.kind not in "fiub":
        raise ParameterError(f"tensor {name!r} holds {array.dtype}, expected real numbers")
    if array.shape != shape:
        raise ParameterError(f"tensor {name!r} has shape {array.shape}, the task expects {shape}")
    flat = np.ascontiguousarray(array, np.float64).reshape(-1)
    bad = first_non_finite(flat)
    if bad >= 0:
        index = tuple(int(i) for i in np.unravel_index(bad, shape))
        raise ParameterError(f"tensor {name!r} is not finite at index {index}")
    return flat


def _unflatten(flat: Floats, parameters: Parameters) -> dict[str, Floats]:
    tensors, start = {}, 0
    for tensor in parameters.tensors:
        size = prod(tensor.shape)
        tensors[tensor.name] = flat[start : start + size].reshape(tensor.shape)
        start += size
    return tensors


def _signs(parameters: Parameters, ctx0: bytes) -> Floats:
    bits = keystream.words(ctx0, ctx0, "rotation", parameters.coded_entries, 1)
    return np.where(bits, -1.0, 1.0)


def _rotate(values: Floats, parameters: Parameters, ctx0: bytes) -> Floats:
    rotated = values * _signs(parameters, ctx0)
    walsh_hadamard(rotated, parameters.rotation_block)
    return rotated


def _rotate_back(rotated: Floats, parameters: Parameters, ctx0: bytes) -> Floats:
    walsh_hadamard(rotated, parameters.rotation_block)
    return rotated * _signs(parameters, ctx0)


def _limbs(weight: int, parameters: Parameters) -> list[int]:
    bits = parameters.value_bits
    return [(weight >> (bits * i)) & (2**bits - 1) for i in range(parameters.weight_limbs)]


def _join_limbs(limbs: RingVector, participants: int, parameters: Parameters) -> int:
    weight = sum(int(limb) << (parameters.value_bits * i) for i, limb in enumerate(limbs))
    if not participants <= weight <= participants * parameters.weight_max:
        raise RoundAborted(f"the weights of {participants} clients sum to {weight}: the sum was not unmasked rightly")
    return weight


def _error_bound(participants: int, total_weight: int, parameters: Parameters) -> float:
    """One step per client, as a part of the mean; a rotation back gathers a block's errors at worst."""
    steps = participants * (1.0 + FLOAT_SLACK * parameters.zero_point)
    return steps * parameters.scale * parameters.weight_max / total_weight * sqrt(parameters.rotation_block)
