"""How a vector lies in the ciphertexts of lattice mode: the parameter table, computed from n_max and bits.

A block is a polynomial of 4,096 coefficients of p entries each, in slots of w bits below T = 2^LT. Slot-major: slot k
of coefficient i is entry k·stride + i of the block, with a stride of 4,096, in the last block of what p slots need,
rounded up to 32; only that many coefficients of it travel. Of the moduli that are known, the one that takes the fewest
bits an entry is chosen: a larger one than the sums need would cost bytes and security alike. 16-bit values take 3.75
bytes an entry for up to 1,000 clients, 3.38 for 100, 3.13 for 32.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import isqrt, prod
from typing import Final

from aggregator.crypto.canonical import Field
from aggregator.errors import ParameterError
from aggregator.wire.chunks import ChunkPlan
from native.gaussian import ERROR_VARIANCE, KEY_VARIANCE
from native.rows import LANE

DEGREE: Final = 4096
PRIME_COUNT: Final = 3
ERROR_TAIL: Final = 9  # std; of a sum, per coefficient, exceeded with at most 2·exp(-81/2) = 2^-57
KEY_RING_BITS: Final = 32
KEY_BYTES: Final = DEGREE * KEY_RING_BITS // 8
BLOCKS_TOGETHER: Final = 20  # sent together, and drawn from the same streams, each of at most a mebibyte


@dataclass(frozen=True, slots=True)
class Modulus:
    """Q, the product of the three largest primes below 2^bits that are 1 mod 8192; each with its least primitive root.

    Security falls with the size of Q: what SECURITY.md states is that of the largest.
    """

    bits: int
    primes: tuple[int, int, int]
    generators: tuple[int, int, int]

    def message_bits(self, clients_max: int) -> int:
        """LT: T·(B + 1) <= Q/2, where B bounds the sum of that many errors; in integers."""
        error_max = 1 + isqrt(int(ERROR_TAIL**2 * ERROR_VARIANCE * clients_max))
        return (prod(self.primes) // (2 * error_max + 2)).bit_length() - 1

    @property
    def block_bytes(self) -> int:
        """Of one ciphertext as it travels."""
        return DEGREE * PRIME_COUNT * self.bits // 8


MODULI: Final = (
    Modulus(24, (16_760_833, 16_736_257, 16_588_801), (7, 5, 19)),
    Modulus(25, (33_538_049, 33_349_633, 33_292_289), (3, 5, 3)),
    Modulus(26, (67_084_289, 67_043_329, 66_994_177), (3, 7, 5)),
    Modulus(27, (134_176_769, 134_111_233, 134_012_929), (3, 10, 13)),
    Modulus(28, (268_369_921, 268_361_729, 268_271_617), (23, 3, 5)),
    Modulus(29, (536_813_569, 536_690_689, 536_641_537), (7, 7, 5)),
    Modulus(30, (1_073_692_673, 1_073_668_097, 1_073_651_713), (3, 3, 10)),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a vector lies in ciphertexts, and how large its sums may grow.

    Args:
        entries: L.
        slot_bits: w, bits that the sum of one entry needs.
        clients_max: n_max.

    Raises:
        ParameterError: not one entry fits a coefficient beside the errors of that many clients.
    """

    entries: int
    slot_bits: int
    clients_max: int
    modulus: Modulus = field(init=False)
    message_bits: int = field(init=False)
    slots: int = field(init=False)

    def __post_init__(self) -> None:
        modulus = _choose(self.slot_bits, self.clients_max)
        object.__setattr__(self, "modulus", modulus)
        object.__setattr__(self, "message_bits", modulus.message_bits(self.clients_max))
        object.__setattr__(self, "slots", self.message_bits // self.slot_bits)

    @property
    def block_entries(self) -> int:
        """Entries of every block but the last."""
        return DEGREE * self.slots

    @property
    def blocks(self) -> int:
        """Ciphertexts of one vector."""
        return -(-self.entries // self.block_entries)

    def stride(self, block: int) -> int:
        """Coefficients of one ciphertext that travel, in whole lanes."""
        lane_entries = LANE * self.slots
        lanes = -(-(self.entries - block * self.block_entries) // lane_entries)
        return min(DEGREE, LANE * lanes)

    @property
    def groups(self) -> list[range]:
        """The blocks, by what travels together."""
        starts = range(0, self.blocks, BLOCKS_TOGETHER)
        return [range(start, min(start + BLOCKS_TOGETHER, self.blocks)) for start in starts]

    def runs(self, blocks: range) -> list[range]:
        """These blocks, the last one of the vector apart, since its stride may be shorter."""
        last = self.blocks - 1
        runs = [range(blocks.start, min(blocks.stop, last)), range(max(blocks.start, last), blocks.stop)]
        return [run for run in runs if run]

    def words(self, blocks: range) -> slice:
        """Which entries of the vector a run of blocks holds."""
        return slice(blocks.start * self.block_entries, min(self.entries, blocks.stop * self.block_entries))

    def residues(self, blocks: range) -> slice:
        """Where the residues of a run of blocks lie among those of the whole vector."""
        start = blocks.start * DEGREE * PRIME_COUNT
        return slice(start, start + len(blocks) * self.stride(blocks.start) * PRIME_COUNT)

    def packed_words(self, blocks: range) -> slice:
        """Where they lie as they travel, in words of 32 bits: 32 residues of b bits fill b words."""
        whole = self.residues(blocks)
        return slice(*(at // LANE * self.modulus.bits for at in (whole.start, whole.stop)))

    @property
    def ciphertext_residues(self) -> int:
        """Residues of the whole vector."""
        last = self.blocks - 1
        return (last * DEGREE + self.stride(last)) * PRIME_COUNT

    @property
    def plan(self) -> ChunkPlan:
        """How a contribution travels: the blinded key, then ciphertexts, as many together as share their streams."""
        payload_bytes = KEY_BYTES + self.ciphertext_residues * self.modulus.bits // 8
        return ChunkPlan(payload_bytes, BLOCKS_TOGETHER * self.modulus.block_bytes, head_bytes=KEY_BYTES)

    def fields(self) -> tuple[Field, ...]:
        """The parameter set, for ctx0."""
        return (
            (DEGREE, self.modulus.primes, self.message_bits, self.slots),
            (KEY_VARIANCE.numerator, KEY_VARIANCE.denominator),
            (ERROR_VARIANCE.numerator, ERROR_VARIANCE.denominator),
        )


def _choose(slot_bits: int, clients_max: int) -> Modulus:
    """The modulus that takes the fewest bits an entry; of equal ones the smallest."""
    slots = {modulus: modulus.message_bits(clients_max) // slot_bits for modulus in MODULI}
    fitting = [modulus for modulus in MODULI if slots[modulus]]
    if not fitting:
        raise ParameterError(
            f"lattice mode: the errors of {clients_max} clients leave {MODULI[-1].message_bits(clients_max)} bits for "
            f"a sum, one entry needs {slot_bits}: lower value_bits or clients_max"
        )
    return min(fitting, key=lambda modulus: Fraction(modulus.bits, slots[modulus]))
