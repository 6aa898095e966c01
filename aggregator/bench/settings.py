"""What a benchmark run is asked for, checked before anything starts."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, Final

from aggregator.errors import ParameterError
from aggregator.local.workload import SECURE_MODES, Workload
from aggregator.wire.chunks import ChunkPlan
from aggregator.wire.messages import CHUNK_BYTES_MAX
from aggregator.wire.operator_messages import Deadlines
from clients.operator import default_deadlines

TASK = "bench"

FLOAT32_BYTES = 4


class Kind(StrEnum):
    """What one round of the run is."""

    PLAIN = "plain"
    SECURE = "secure"
    DURABLE = "durable"


MODES: Final = (*SECURE_MODES, str(Kind.PLAIN))


@dataclass(frozen=True, slots=True)
class Settings(Workload):
    """One run of a workload, whose dropouts vanish in the middle of their upload; mode "plain" runs no secure round.

    Args:
        repeats: rounds of each kind.
        client_processes: how many processes share the clients' sessions.
        durable: whether each secure round is run on a second server, too, that writes everything down.

    Raises:
        ParameterError: as `Workload`, less than 1 of either, or durable plain rounds.
    """

    modes: ClassVar[tuple[str, ...]] = MODES

    repeats: int
    client_processes: int
    durable: bool = False

    def __post_init__(self) -> None:
        Workload.__post_init__(self)  # a class with slots is made anew, which super() would not find
        if min(self.repeats, self.client_processes) < 1:
            raise ParameterError("repeats and client processes must be at least 1 each")
        if self.durable and self.mode == Kind.PLAIN:
            raise ParameterError("a plain sum is never written down: durable takes a secure mode")

    @property
    def deadlines(self) -> Deadlines:
        """An operator's own, but that nobody is waited for: on one machine a line only breaks on purpose."""
        return replace(default_deadlines(self.parameters()), reconnect_s=0.0)

    @property
    def plain_plan(self) -> ChunkPlan:
        """How an update is cut in the plain rounds."""
        return ChunkPlan(FLOAT32_BYTES * self.entries, CHUNK_BYTES_MAX)

    @property
    def rounds(self) -> tuple[Kind, ...]:
        """The order: all kinds in every repeat, in turn first, so that none always finds memory warm."""
        if self.mode == Kind.PLAIN:
            return (Kind.PLAIN,) * self.repeats
        each = (Kind.PLAIN, Kind.SECURE, Kind.DURABLE) if self.durable else (Kind.PLAIN, Kind.SECURE)
        return tuple(kind for repeat in range(self.repeats) for kind in (each if repeat % 2 == 0 else each[::-1]))

    @property
    def survivors(self) -> int:
        """Clients in every sum."""
        return self.clients - self.dropouts

    def vanishes(self, client: int) -> bool:
        """Whether a client, counted from 0, leaves in the middle of every upload: the last ones do."""
        return client >= self.survivors
