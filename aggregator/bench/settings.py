"""What a benchmark run is asked for, checked before anything starts."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aggregator.errors import ParameterError
from aggregator.local.tolerance import check_dropouts, minimum_cohort
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.wire.chunks import ChunkPlan
from aggregator.wire.messages import CHUNK_BYTES_MAX, Tensor
from aggregator.wire.operator_messages import Deadlines

TASK = "bench"
TENSOR = "update"
CLIP = 1.0
WEIGHT_MAX = 100

# On one machine a line only breaks on purpose, so nobody is waited for; and a slow step is slow, not dead.
STEP_S = 6 * 3_600.0
DEADLINES: Final = Deadlines(STEP_S, STEP_S, STEP_S, STEP_S, STEP_S, reconnect_s=0.0)

FLOAT32_BYTES = 4


class Kind(StrEnum):
    """What one round of the run is."""

    PLAIN = "plain"
    SECURE = "secure"


MODES: Final = (*sorted(set(Mode) - {Mode.AUTO}), str(Kind.PLAIN))


@dataclass(frozen=True, slots=True)
class Settings:
    """One run.

    Args:
        mode: one of MODES; "plain" runs no secure round.
        clients: how many sites, each with a session of its own.
        entries: values of one update.
        bits: of one quantised value.
        dropouts: how many clients vanish in the middle of their upload.
        repeats: rounds of each kind.
        client_processes: how many processes share the sessions.

    Raises:
        ParameterError: an unknown mode, or numbers with which no round could close.
    """

    mode: str
    clients: int
    entries: int
    bits: int
    dropouts: int
    repeats: int
    client_processes: int

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ParameterError(f"mode {self.mode!r} is not in this version, which has {', '.join(MODES)}")
        check_dropouts(self.clients, self.dropouts, "clients")
        if min(self.entries, self.repeats, self.client_processes) < 1:
            raise ParameterError("entries, repeats and client processes must be at least 1 each")
        self.parameters()  # refuses bits and entries that do not fit

    def parameters(self) -> Parameters:
        """How updates travel in the secure rounds; of a plain run, how they would."""
        return Parameters(
            (Tensor(TENSOR, (self.entries,)),),
            clip=CLIP,
            clients_max=self.clients,
            minimum_cohort=minimum_cohort(self.clients),
            weight_max=WEIGHT_MAX,
            value_bits=self.bits,
            mode=Mode.AUTO if self.mode == Kind.PLAIN else Mode(self.mode),
        )

    @property
    def plain_plan(self) -> ChunkPlan:
        """How an update is cut in the plain rounds."""
        return ChunkPlan(FLOAT32_BYTES * self.entries, CHUNK_BYTES_MAX)

    @property
    def rounds(self) -> tuple[Kind, ...]:
        """The order: both kinds in every repeat, in turn first, so that neither always finds memory warm."""
        if self.mode == Kind.PLAIN:
            return (Kind.PLAIN,) * self.repeats
        pair = (Kind.PLAIN, Kind.SECURE)
        return tuple(kind for repeat in range(self.repeats) for kind in (pair if repeat % 2 == 0 else pair[::-1]))

    @property
    def survivors(self) -> int:
        """Clients in every sum."""
        return self.clients - self.dropouts

    def vanishes(self, client: int) -> bool:
        """Whether a client, counted from 0, leaves in the middle of every upload: the last ones do."""
        return client >= self.survivors

    def weight(self, client: int) -> int:
        """A client's number of samples."""
        return 1 + client % WEIGHT_MAX
