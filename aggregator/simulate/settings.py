"""What a simulation is asked for, checked before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from aggregator.errors import ParameterError
from aggregator.local.draws import departures
from aggregator.local.workload import SECURE_MODES, Workload
from aggregator.protocol.parameters import Mode
from aggregator.wire.vocabulary import Step

MASKED_MODES: Final = tuple(mode for mode in SECURE_MODES if mode != Mode.HOMOMORPHIC)


@dataclass(frozen=True, slots=True)
class Settings(Workload):
    """One simulation of a workload, whose dropouts vanish at each step about as often.

    Args:
        rounds: how many.
        seed: decides the updates and who vanishes; no key depends on it.

    Raises:
        ParameterError: as `Workload`, or no rounds.
    """

    modes: ClassVar[tuple[str, ...]] = MASKED_MODES

    rounds: int
    seed: int

    def __post_init__(self) -> None:
        if self.mode == Mode.HOMOMORPHIC:
            raise ParameterError("a simulation has no key holder and no auditor: use sangam bench --mode homomorphic")
        Workload.__post_init__(self)  # a class with slots is made anew, which super() would not find
        if self.rounds < 1:
            raise ParameterError("rounds must be at least 1")

    def absences(self, number: int) -> Mapping[int, Step]:
        """Who vanishes in round `number`, from 1, and at which step."""
        return dict(departures(self.seed, number, self.clients, self.dropouts))

    def survivors(self, number: int) -> tuple[int, ...]:
        """Whose updates are in the sum of round `number`: all but those that left before theirs had arrived whole."""
        absent = self.absences(number)
        early = {Step.ADVERTISE_KEYS, Step.SHARE_KEYS, Step.MASKED_INPUT}
        return tuple(client for client in range(self.clients) if absent.get(client) not in early)
