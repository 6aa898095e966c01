"""What a simulation is asked for, checked before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass

from aggregator.errors import ParameterError
from aggregator.local.draws import departures
from aggregator.local.tolerance import check_dropouts
from aggregator.local.workload import SECURE_MODES, Workload
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.wire.messages import CLIENTS_MAX
from aggregator.wire.vocabulary import Step


@dataclass(frozen=True, slots=True)
class Settings:
    """One simulation.

    Args:
        mode: one of SECURE_MODES.
        clients: how many.
        entries: values of one update.
        bits: of one quantised value.
        dropouts: how many clients vanish in every round, at each step about as many.
        rounds: how many.
        seed: decides the updates and who vanishes; no key depends on it.

    Raises:
        ParameterError: an unknown mode, or numbers with which no round could close.
    """

    mode: str
    clients: int
    entries: int
    bits: int
    dropouts: int
    rounds: int
    seed: int

    def __post_init__(self) -> None:
        if self.mode not in SECURE_MODES:
            raise ParameterError(f"mode {self.mode!r} is not in this version, which has {', '.join(SECURE_MODES)}")
        check_dropouts(self.clients, self.dropouts, "clients", CLIENTS_MAX)
        if min(self.entries, self.rounds) < 1:
            raise ParameterError("entries and rounds must be at least 1 each")
        self.parameters()  # refuses bits and entries that do not fit

    def parameters(self) -> Parameters:
        """How updates travel."""
        return Workload(Mode(self.mode), self.clients, self.entries, self.bits).parameters()

    def absences(self, number: int) -> Mapping[int, Step]:
        """Who vanishes in round `number`, from 1, and at which step."""
        return dict(departures(self.seed, number, self.clients, self.dropouts))

    def survivors(self, number: int) -> tuple[int, ...]:
        """Whose updates are in the sum of round `number`: all but those that left before theirs had arrived whole."""
        absent = self.absences(number)
        early = {Step.ADVERTISE_KEYS, Step.SHARE_KEYS, Step.MASKED_INPUT}
        return tuple(client for client in range(self.clients) if absent.get(client) not in early)
