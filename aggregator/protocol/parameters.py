"""How updates become words of the ring: every number that both sides must agree on, checked before any message.

v  value bits of one quantised entry      Z = 2^(v-1) - 1, a tensor's scale = its clip / Z
w  sum bits = bits(n_max · (2^v - 1))     the ring is 2^w, w <= 64
L  entries = the tensors' entries (padded to whole blocks when rotated) + the weight's limbs
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from aggregator.crypto.canonical import Field, digest
from aggregator.errors import ParameterError
from aggregator.protocol.graph import ThreatModel
from aggregator.protocol.homomorphic_layout import CipherLayout
from aggregator.protocol.layout import Layout
from aggregator.protocol.parties import Audit, Parties
from aggregator.wire import messages
from aggregator.wire.chunks import ChunkPlan, WordPlan
from aggregator.wire.messages import CLIENTS_MAX, ENTRIES_MAX, Tensor

VALUE_BITS_MAX = 54  # Z < 2^53: every quantised value is exact in a float64
RING_BITS_MAX = 64
WEIGHT_MAX = 2**53
ROTATION_BLOCK_ENTRIES = 4096
CLIP_LEAST, CLIP_MOST = 1e-200, 1e200
"""Whatever v, n and the weights: a step of the mean is neither 0 nor infinite, and no float32 entry but 0 becomes a
subnormal number of steps, which takes processors longer: a server that picks clips would learn how many do."""
LATTICE_ENTRIES_LEAST = 20_000  # the server's time crosses at 6,000, a client's at 17,000: benchmarks/test_crossover.py


class Mode(StrEnum):
    """How the vector travels. AUTO chooses by its length when parameters are made; it never travels itself."""

    AUTO = "auto"
    PAIRWISE = "pairwise"
    LATTICE = "lattice"
    HOMOMORPHIC = "homomorphic"


@dataclass(frozen=True, slots=True)
class Parameters:
    """The encoding of one task's updates; part of ctx0.

    Args:
        tensors: names and shapes, in the order in which they are laid out, and clips of their own where they differ.
        clip: entries are clipped to [-clip, clip], in the update's own unit. Also the scale: the error of one
            entry is below clip / (2^(v-1) - 1) per client. A tensor's own clip takes its place for that tensor.
        clients_max: n_max, how many clients one sum may hold.
        minimum_cohort: a round with fewer clients in it is aborted.
        weight_max: the largest weight (number of samples) of one client; the mean's error grows with weight_max over
            the mean weight, so choose it near the largest site, not far beyond.
        value_bits: v, 2 to 54.
        rotate: apply the random rotation before clipping, which spreads outliers over 4,096 entries.
        mode: how the vector travels; by default lattice from 20,000 entries on, pairwise below.
        threat: what the graph above 100 clients must withstand.
        parties: key holder and auditor, in homomorphic mode.

    Raises:
        ParameterError: the sum could overflow the ring, or the parameters protect too little.
    """

    tensors: tuple[Tensor, ...]
    clip: float
    clients_max: int
    minimum_cohort: int
    weight_max: int
    value_bits: int = 16
    rotate: bool = False
    mode: Mode = Mode.AUTO
    threat: ThreatModel = field(default_factory=ThreatModel)
    parties: Parties | None = None

    def __post_init__(self) -> None:
        _check_tensors(self.tensors)
        _check_range("value_bits", self.value_bits, 2, VALUE_BITS_MAX)
        _check_range("clients_max", self.clients_max, 2, CLIENTS_MAX)
        _check_range("minimum_cohort", self.minimum_cohort, 2, self.clients_max)
        _check_range("weight_max", self.weight_max, 1, WEIGHT_MAX)
        _check_clips(self.clip, self.tensors)
        if self.ring_bits > RING_BITS_MAX:
            raise ParameterError(
                f"sums of {self.clients_max} clients at {self.value_bits} bits need {self.ring_bits} bits, "
                f"the ring has at most {RING_BITS_MAX}: lower value_bits or clients_max"
            )
        if self.entries > ENTRIES_MAX:
            raise ParameterError(f"{self.entries} entries, at most {ENTRIES_MAX} fit one round")
        if self.mode is Mode.AUTO:
            best = Mode.LATTICE if self.entries >= LATTICE_ENTRIES_LEAST else Mode.PAIRWISE
            object.__setattr__(self, "mode", best)
        if (self.mode is Mode.HOMOMORPHIC) != (self.parties is not None):
            raise ParameterError("homomorphic mode, and no other, needs a key holder, and an auditor: name them")

    @property
    def zero_point(self) -> int:
        """Z, the offset that makes quantised values non-negative."""
        return (1 << (self.value_bits - 1)) - 1

    @property
    def scale(self) -> float:
        """The value of one quantisation step in a tensor without a clip of its own."""
        return self.clip / self.zero_point

    @property
    def clips(self) -> tuple[float, ...]:
        """The clip of each tensor: its own, or else the parameters'."""
        return tuple([float(tensor.clip or self.clip) for tensor in self.tensors])

    @property
    def scales(self) -> tuple[float, ...]:
        """The value of one quantisation step of each tensor; computed, never accepted from the other side."""
        return tuple([clip / self.zero_point for clip in self.clips])

    @property
    def ring_bits(self) -> int:
        """w, bits of one word of the sum."""
        return (self.clients_max * ((1 << self.value_bits) - 1)).bit_length()

    @property
    def rotation_block(self) -> int:
        """Entries of one block of the rotation, a power of two; 1 without rotation."""
        if not self.rotate:
            return 1
        return min(ROTATION_BLOCK_ENTRIES, 1 << (self.tensor_entries - 1).bit_length())

    @property
    def tensor_entries(self) -> int:
        """Entries of all tensors together."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def coded_entries(self) -> int:
        """Entries that are quantised: the tensors', padded to whole rotation blocks."""
        return -(-self.tensor_entries // self.rotation_block) * self.rotation_block

    @property
    def weight_limbs(self) -> int:
        """Entries that carry the weight, `value_bits` each, least significant first."""
        return -(-self.weight_max.bit_length() // self.value_bits)

    @property
    def entries(self) -> int:
        """L, words of the masked vector."""
        return self.coded_entries + self.weight_limbs

    @property
    def layout(self) -> Layout:
        """How the vector lies in ciphertexts, in lattice mode."""
        return Layout(self.entries, self.ring_bits, self.clients_max)

    @property
    def ciphertexts(self) -> CipherLayout:
        """How the vector lies in ciphertexts, in homomorphic mode."""
        return CipherLayout(self.entries, self.value_bits, self.clients_max)

    @property
    def upload_plan(self) -> ChunkPlan:
        """How a contribution is cut for the wire."""
        match self.mode:
            case Mode.LATTICE:
                return self.layout.plan
            case Mode.HOMOMORPHIC:
                return self.ciphertexts.plan
        return self.result_plan

    @property
    def result_plan(self) -> WordPlan:
        """How the packed sum is cut for the wire."""
        return WordPlan.of(self.entries, self.ring_bits)

    def fields(self) -> tuple[Field, ...]:
        """The canonical fields that ctx0 covers, derived numbers included."""
        return (
            str(self.mode),
            self._layout_fields(),
            (self.value_bits, self.ring_bits, self.clients_max, self.entries),
            tuple(
                (tensor.name, tensor.shape, clip, scale)
                for tensor, clip, scale in zip(self.tensors, self.clips, self.scales, strict=True)
            ),
            (float(self.clip), self.scale, self.weight_max),
            ("rotated" if self.rotate else "plain", self.rotation_block),
            ("noise: none", 0.0),
            self.minimum_cohort,
            self.threat.fields(),
            *((self.parties.fields(),) if self.parties else ()),
        )

    def _layout_fields(self) -> tuple[Field, ...]:
        match self.mode:
            case Mode.LATTICE:
                return self.layout.fields()
            case Mode.HOMOMORPHIC:
                return self.ciphertexts.fields()
        return ()

    @property
    def hash(self) -> bytes:
        """Under which a site remembers what it agreed to for a task, 32 bytes."""
        return digest("sangam/v1/parameters", self.fields())

    def to_message(self) -> messages.Parameters:
        """The wire's form."""
        threat = messages.Threat(
            self.threat.corrupt_fraction,
            self.threat.dropout_fraction,
            self.threat.malicious,
            self.threat.security_bits,
            self.threat.failure_bits,
        )
        return messages.Parameters(
            mode=str(self.mode),
            value_bits=self.value_bits,
            clients_max=self.clients_max,
            clip=self.clip,
            weight_max=self.weight_max,
            rotate=self.rotate,
            minimum_cohort=self.minimum_cohort,
            threat=threat,
            tensors=self.tensors,
            audit=str(self.parties.audit) if self.parties else "",
            key_holder=self.parties.key_holder if self.parties else "",
            auditor=self.parties.auditor if self.parties else "",
        )

    @classmethod
    def from_message(cls, message: messages.Parameters) -> "Parameters":
        """From the wire's form; all of the class's own checks apply.

        Raises:
            ParameterError: as the class, or a mode that this version does not know.
        """
        known = set(Mode) - {Mode.AUTO}
        if message.mode not in known:
            raise ParameterError(f"mode {message.mode!r} is unknown: this version has {', '.join(sorted(known))}")
        threat = message.threat
        return cls(
            tensors=message.tensors,
            clip=message.clip,
            clients_max=message.clients_max,
            minimum_cohort=message.minimum_cohort,
            weight_max=message.weight_max,
            value_bits=message.value_bits,
            rotate=message.rotate,
            mode=Mode(message.mode),
            threat=ThreatModel(
                threat.corrupt_fraction,
                threat.dropout_fraction,
                threat.malicious,
                threat.security_bits,
                threat.failure_bits,
            ),
            parties=_parties(message),
        )


def _parties(message: messages.Parameters) -> Parties | None:
    if not (message.audit or message.key_holder or message.auditor):
        return None
    if message.audit not in set(Audit):
        raise ParameterError(f"audit {message.audit!r} is unknown: this version has {', '.join(Audit)}")
    return Parties(message.key_holder, message.auditor, Audit(message.audit))


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ParameterError(f"{name} is {value}, allowed are {least} to {most}")


def _check_clips(clip: float, tensors: tuple[Tensor, ...]) -> None:
    """NaN is in no range; a tensor's 0 means the parameters' clip."""
    for owner, own in (("clip", clip), *((f"the clip of tensor {t.name!r}", t.clip) for t in tensors if t.clip)):
        if not CLIP_LEAST <= own <= CLIP_MOST:
            raise ParameterError(f"{owner} is {own}, allowed are {CLIP_LEAST} to {CLIP_MOST}")


def _check_tensors(tensors: tuple[Tensor, ...]) -> None:
    if not tensors:
        raise ParameterError("an update needs at least one tensor")
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        raise ParameterError(f"tensor names are not unique: {sorted(n for n in set(names) if names.count(n) > 1)}")
    for tensor in tensors:
        if not tensor.name or any(size < 1 for size in tensor.shape):
            raise ParameterError(f"tensor {tensor.name!r} needs a name and dimensions of at least 1")
