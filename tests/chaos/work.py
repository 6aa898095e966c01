"""What is summed: the tasks of a run, in all modes and of different lengths, and the lanes of their rounds."""

from dataclasses import dataclass
from typing import Final

from aggregator.local.consortium import PARTIES
from aggregator.local.tolerance import minimum_cohort
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.wire.messages import Tensor
from aggregator.wire.operator_messages import Deadlines, Opening, Retention

CLIP: Final = 4.0
WEIGHT_MAX: Final = 100
PATIENCE_S: Final = 60.0  # of everybody, while the server is away
STEP_S: Final = 20.0
RECONNECT_S: Final = 5.0
GATHER_S: Final = 20.0
DEADLINES: Final = Deadlines(STEP_S, STEP_S, STEP_S, STEP_S, STEP_S, RECONNECT_S, STEP_S)
STEPS_MOST: Final = 6
RESULTS_KEPT: Final = Retention().results
STUCK_AFTER_S: Final = GATHER_S + STEPS_MOST * STEP_S + 30.0  # the sum of a round's deadlines, and some for the machine


@dataclass(frozen=True, slots=True)
class Study:
    """One task: one tensor `x` of `entries` values, in `mode`; its rounds gather first where `gathers`."""

    name: str
    mode: Mode
    entries: int
    gathers: bool = False

    def parameters(self, sites: int) -> Parameters:
        """How its updates travel."""
        return Parameters(
            (Tensor("x", (self.entries,)),),
            clip=CLIP,
            clients_max=sites,
            minimum_cohort=minimum_cohort(sites),
            weight_max=WEIGHT_MAX,
            mode=self.mode,
            parties=PARTIES if self.mode is Mode.HOMOMORPHIC else None,
        )

    def opening(self, sites: int) -> Opening:
        """When its rounds open."""
        return Opening(enough=sites - 1 if self.gathers else 0, gather_s=GATHER_S)


HOMOMORPHIC: Final = "stroke"
LANES: Final = (
    (Study(HOMOMORPHIC, Mode.HOMOMORPHIC, 20_000), Study("sepsis", Mode.PAIRWISE, 6)),
    (
        Study("imaging", Mode.LATTICE, 600_000),
        Study("ecg", Mode.PAIRWISE, 200_000, gathers=True),
        Study("genome", Mode.LATTICE, 30_000),
    ),
)
TASKS: Final = tuple(study.name for lane in LANES for study in lane)
