"""A round's numbers, and floats to words of the ring and back; from docs/contract.md alone.

How a client draws its rounding is its own affair: here every entry takes eight bytes of the system's randomness.
"""

import os
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from tests.reference import keystream, lattice
from tests.reference.digest import digest

SUITE = "P-256 ECDSA SHA-256; X25519; HKDF-SHA256; ChaCha20-Poly1305; AES-256-CTR; Shamir GF(2^16)"
CHUNK_BYTES_MAX = 1 << 20
KEY_BYTES = 4 * lattice.DEGREE


class Numbers:
    """All that follows from a round's parameters."""

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters
        v, n_max = parameters.value_bits, parameters.clients_max
        self.zero = 2 ** (v - 1) - 1
        self.clips = [tensor.clip or parameters.clip for tensor in parameters.tensors]
        self.scales = [clip / self.zero for clip in self.clips]
        self.ring_bits = (n_max * (2**v - 1)).bit_length()
        self.tensor_entries = sum(prod(tensor.shape) for tensor in parameters.tensors)
        self.block = min(4096, 1 << (self.tensor_entries - 1).bit_length()) if parameters.rotate else 1
        self.coded = -(-self.tensor_entries // self.block) * self.block
        self.limbs = -(-parameters.weight_max.bit_length() // v)
        self.entries = self.coded + self.limbs
        if parameters.mode == "lattice":
            self.ring, self.message_bits, self.slots = lattice.chosen(self.ring_bits, n_max)
        self.result_chunk_bytes = CHUNK_BYTES_MAX // self.ring_bits * self.ring_bits
        self.result_bytes = -(-self.entries * self.ring_bits // 8)

    def per_entry(self) -> np.ndarray:
        """Each entry's scale."""
        return np.repeat(self.scales, [prod(tensor.shape) for tensor in self.parameters.tensors])

    def fields(self) -> tuple[Any, ...]:
        """What ctx0 covers of the parameters."""
        p, t = self.parameters, self.parameters.threat
        return (
            p.mode,
            self._lattice_fields() if p.mode == "lattice" else (),
            (p.value_bits, self.ring_bits, p.clients_max, self.entries),
            tuple(
                (tensor.name, tuple(tensor.shape), clip, scale)
                for tensor, clip, scale in zip(p.tensors, self.clips, self.scales, strict=True)
            ),
            (p.clip, p.clip / self.zero, p.weight_max),
            ("rotated" if p.rotate else "plain", self.block),
            ("noise: none", 0.0),
            p.minimum_cohort,
            (
                t.corrupt_fraction,
                t.dropout_fraction,
                "malicious" if t.malicious else "semi-honest",
                t.security_bits,
                t.failure_bits,
            ),
        )

    def cuts(self) -> list[tuple[int, int]]:
        """Where an upload is cut, (start, stop) in bytes."""
        if self.parameters.mode == "pairwise":
            return _cuts(0, self.result_bytes, self.result_chunk_bytes)
        whole, rest = divmod(self.entries, lattice.DEGREE * self.slots)
        coefficients = whole * lattice.DEGREE + lattice.stride(rest, self.slots)
        residue_bits = 3 * self.ring.bits
        group_bytes = lattice.GROUP * lattice.DEGREE * residue_bits // 8
        return [(0, KEY_BYTES), *_cuts(KEY_BYTES, KEY_BYTES + coefficients * residue_bits // 8, group_bytes)]

    def _lattice_fields(self) -> tuple[Any, ...]:
        variances = lattice.KEY_VARIANCE, lattice.ERROR_VARIANCE
        return (
            (lattice.DEGREE, self.ring.primes, self.message_bits, self.slots),
            *((variance.numerator, variance.denominator) for variance in variances),
        )


def ctx0(terms: Any) -> bytes:
    """The hash of all that is known when a round opens."""
    return digest(
        "sangam/v1/ctx0",
        terms.protocol_version,
        SUITE,
        terms.deployment,
        terms.task,
        terms.round,
        terms.server_nonce,
        terms.roster_size,
        terms.roster_root,
        terms.authority_hash,
        terms.model_hash,
        Numbers(terms.parameters).fields(),
    )


def model_hash(base: Mapping[str, np.ndarray]) -> bytes:
    """The digest of a base model; of none, that of no arrays."""
    little = {name: array.astype(array.dtype.newbyteorder("<")) for name, array in base.items()}
    arrays = [(name, a.dtype.str, tuple(a.shape), a.tobytes()) for name, a in sorted(little.items())]
    return digest("sangam/v1/model", arrays)


def encode(update: Mapping[str, np.ndarray], weight: int, terms: Any) -> list[int]:
    """One update as words of the ring: weighted, in steps, perhaps rotated, rounded, clipped, offset; then limbs."""
    p, numbers = terms.parameters, Numbers(terms.parameters)
    flat = [np.asarray(update[tensor.name], np.float64).reshape(-1) for tensor in p.tensors]
    steps = np.zeros(numbers.coded)
    steps[: numbers.tensor_entries] = np.concatenate(flat) * (weight / p.weight_max) / numbers.per_entry()
    if p.rotate:
        steps = _transformed(steps * _signs(terms, numbers), numbers.block)
    below = np.floor(steps)
    draws = (np.frombuffer(os.urandom(8 * steps.size), "<u8") >> np.uint64(11)) * 2.0**-53
    rounded = np.clip(below + (draws < steps - below), -numbers.zero, numbers.zero)
    limbs = [(weight >> (p.value_bits * i)) % 2**p.value_bits for i in range(numbers.limbs)]
    return [int(entry) + numbers.zero for entry in rounded] + limbs


def decode(total: Sequence[int], clients: int, terms: Any) -> tuple[dict[str, np.ndarray], int]:
    """What a sum means: the weighted mean per tensor, and the total weight."""
    p, numbers = terms.parameters, Numbers(terms.parameters)
    weight = sum(limb << (p.value_bits * i) for i, limb in enumerate(total[numbers.coded :]))
    steps = np.array([entry - clients * numbers.zero for entry in total[: numbers.coded]], np.float64)
    if p.rotate:
        steps = _transformed(steps, numbers.block) * _signs(terms, numbers)
    values = steps[: numbers.tensor_entries] * numbers.per_entry() * (p.weight_max / weight)
    mean, start = {}, 0
    for tensor in p.tensors:
        size = prod(tensor.shape)
        mean[tensor.name] = values[start : start + size].reshape(tuple(tensor.shape))
        start += size
    return mean, weight


def _signs(terms: Any, numbers: Numbers) -> np.ndarray:
    context = ctx0(terms)
    return 1.0 - 2.0 * np.array(keystream.words(context, context, "rotation", numbers.coded, 1))


def _transformed(values: np.ndarray, block: int) -> np.ndarray:
    """The orthonormal Walsh-Hadamard transform of each block, by its definition."""
    signs = np.ones((1, 1))
    while len(signs) < block:
        signs = np.kron(signs, [[1, 1], [1, -1]])
    return (values.reshape(-1, block) @ signs / np.sqrt(block)).reshape(-1)


def _cuts(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    return [(at, min(at + size, stop)) for at in range(start, stop, size)]
