"""What the clients of a measurement sum: how many of them, of which length, in which mode."""

from dataclasses import dataclass
from typing import ClassVar, Final

from aggregator.errors import ParameterError
from aggregator.local.consortium import PARTIES
from aggregator.local.tolerance import check_dropouts, minimum_cohort
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.wire.messages import CLIENTS_MAX, Tensor

TENSOR: Final = "update"
CLIP: Final = 1.0
WEIGHT_MAX: Final = 100
SECURE_MODES: Final = tuple(sorted(set(Mode) - {Mode.AUTO}))


@dataclass(frozen=True, slots=True)
class Workload:
    """One tensor of `entries` values in [-1, 1] from each client, checked before anything starts.

    Args:
        mode: how the vectors travel, one of `modes`.
        clients: how many.
        entries: values of one update.
        bits: of one quantised value.
        dropouts: how many clients vanish in every round.

    Raises:
        ParameterError: an unknown mode, or numbers with which no round could close.
    """

    modes: ClassVar[tuple[str, ...]] = SECURE_MODES

    mode: str
    clients: int
    entries: int
    bits: int
    dropouts: int

    def __post_init__(self) -> None:
        if self.mode not in self.modes:
            raise ParameterError(f"mode {self.mode!r} is not one of those that this runs: {', '.join(self.modes)}")
        check_dropouts(self.clients, self.dropouts, "clients", CLIENTS_MAX, masked=self.mode != Mode.HOMOMORPHIC)
        if self.entries < 1:
            raise ParameterError("entries must be at least 1")
        self.parameters()  # refuses bits and entries that do not fit

    def parameters(self) -> Parameters:
        """How updates travel; in a mode that is not secure, how they would."""
        return Parameters(
            (Tensor(TENSOR, (self.entries,)),),
            clip=CLIP,
            clients_max=self.clients,
            minimum_cohort=minimum_cohort(self.clients),
            weight_max=WEIGHT_MAX,
            value_bits=self.bits,
            mode=Mode(self.mode) if self.mode in SECURE_MODES else Mode.AUTO,
            parties=PARTIES if self.mode == Mode.HOMOMORPHIC else None,
        )


def weight(client: int) -> int:
    """A client's number of samples."""
    return 1 + client % WEIGHT_MAX
