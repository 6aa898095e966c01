"""What the clients of a measurement sum: how many of them, of which length, in which mode."""

from dataclasses import dataclass
from typing import Final

from aggregator.local.tolerance import minimum_cohort
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.wire.messages import Tensor

TENSOR: Final = "update"
CLIP: Final = 1.0
WEIGHT_MAX: Final = 100
SECURE_MODES: Final = tuple(sorted(set(Mode) - {Mode.AUTO}))


@dataclass(frozen=True, slots=True)
class Workload:
    """One tensor of `entries` values in [-1, 1] from each client.

    Args:
        mode: how the vectors travel.
        clients: how many.
        entries: values of one update.
        bits: of one quantised value.
    """

    mode: Mode
    clients: int
    entries: int
    bits: int

    def parameters(self) -> Parameters:
        """How updates travel. ParameterError: bits and entries that do not fit."""
        return Parameters(
            (Tensor(TENSOR, (self.entries,)),),
            clip=CLIP,
            clients_max=self.clients,
            minimum_cohort=minimum_cohort(self.clients),
            weight_max=WEIGHT_MAX,
            value_bits=self.bits,
            mode=self.mode,
        )


def weight(client: int) -> int:
    """A client's number of samples."""
    return 1 + client % WEIGHT_MAX
