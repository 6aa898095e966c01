"""How a vector lies in the ciphertexts of lattice mode: the parameter table, computed from n_max and bits.

A block is a polynomial of 4,096 coefficients of p entries each, in slots of w bits below T = 2^LT. Slot-major: slot k
of coefficient i is entry k·stride + i of the block, with a stride of 4,096, in the last block of what p slots need;
only that many coefficients of it travel. 16-bit values of up to 1,000 clients take p = 3, hence 4 bytes an entry.
"""

from dataclasses import dataclass, field
from math import isqrt, prod
from typing import Final

from aggregator.crypto.canonical import Field
from aggregator.errors import ParameterError
from aggregator.wire.chunks import ChunkPlan
from aggregator.wire.messages import CHUNK_BYTES_MAX
from native.gaussian import ERROR_VARIANCE, KEY_VARIANCE

DEGREE: Final = 4096
PRIMES: Final = (1_073_692_673, 1_073_668_097, 1_073_651_713)
GENERATORS: Final = (3, 3, 10)
MODULUS: Final[int] = prod(PRIMES)
ERROR_TAIL: Final = 9  # std; of a sum, per coefficient, exceeded with at most 2·exp(-81/2) = 2^-57
KEY_RING_BITS: Final = 32
KEY_BYTES: Final = DEGREE * KEY_RING_BITS // 8
RESIDUE_BYTES: Final = 4
BLOCK_BYTES: Final = DEGREE * len(PRIMES) * RESIDUE_BYTES
BLOCKS_TOGETHER: Final = CHUNK_BYTES_MAX // BLOCK_BYTES  # 21: sent together, and drawn from the same streams


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
    message_bits: int = field(init=False)
    slots: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "message_bits", _message_bits(self.clients_max))
        object.__setattr__(self, "slots", self.message_bits // self.slot_bits)
        if self.slots < 1:
            raise ParameterError(
                f"lattice mode: the errors of {self.clients_max} clients leave {self.message_bits} bits for a sum, "
                f"one entry needs {self.slot_bits}: lower value_bits or clients_max"
            )

    @property
    def block_entries(self) -> int:
        """Entries of every block but the last."""
        return DEGREE * self.slots

    @property
    def blocks(self) -> int:
        """Ciphertexts of one vector."""
        return -(-self.entries // self.block_entries)

    def stride(self, block: int) -> int:
        """Coefficients of one ciphertext that travel."""
        return min(DEGREE, -(-(self.entries - block * self.block_entries) // self.slots))

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
        start = blocks.start * DEGREE * len(PRIMES)
        return slice(start, start + len(blocks) * self.stride(blocks.start) * len(PRIMES))

    @property
    def ciphertext_residues(self) -> int:
        """Residues of the whole vector."""
        last = self.blocks - 1
        return (last * DEGREE + self.stride(last)) * len(PRIMES)

    @property
    def plan(self) -> ChunkPlan:
        """How a contribution travels: the blinded key, then ciphertexts, as many together as fit a mebibyte."""
        payload_bytes = KEY_BYTES + self.ciphertext_residues * RESIDUE_BYTES
        return ChunkPlan(payload_bytes, BLOCKS_TOGETHER * BLOCK_BYTES, head_bytes=KEY_BYTES)

    def fields(self) -> tuple[Field, ...]:
        """The parameter set, for ctx0."""
        return (
            (DEGREE, PRIMES, self.message_bits, self.slots),
            (KEY_VARIANCE.numerator, KEY_VARIANCE.denominator),
            (ERROR_VARIANCE.numerator, ERROR_VARIANCE.denominator),
        )


def _message_bits(clients_max: int) -> int:
    """LT: T·(B + 1) <= Q/2, where B bounds the sum of that many errors; in integers."""
    error_max = 1 + isqrt(int(ERROR_TAIL**2 * ERROR_VARIANCE * clients_max))
    return (MODULUS // (2 * error_max + 2)).bit_length() - 1
