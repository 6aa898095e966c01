"""Who looks on while rounds happen: metrics, logs and traces, of which the rounds know this contract only."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol, TypeAlias

from aggregator.protocol.parameters import Mode
from aggregator.wire.operator_messages import RoundEvent


class Observer(Protocol):
    """Looks on one round. Its methods neither raise nor block: they run in the midst of it, on the event loop."""

    def happened(self, event: RoundEvent) -> None:
        """One event of the round; the last one says how it ended."""

    def working(self, part: str) -> AbstractContextManager[object]:
        """Around a part of the work that is long enough for a thread of its own, named as `rounds.meter` names it."""

    def ended(self, cpu_seconds: Mapping[str, float]) -> None:
        """What the round has cost the server, CPU seconds by part; not of a round that never opened."""


class Unobserved:
    """Nobody looks on."""

    def happened(self, event: RoundEvent) -> None:
        """Nothing."""

    def working(self, part: str) -> AbstractContextManager[object]:
        """Nothing around it."""
        return _NOTHING

    def ended(self, cpu_seconds: Mapping[str, float]) -> None:
        """Nothing."""


_NOTHING: Final = nullcontext()
UNOBSERVED: Final = Unobserved()

Observe: TypeAlias = Callable[[str, int, Mode], Observer]


def unobserved(*_: object) -> Observer:
    """The `Observe` of a server that nobody looks at."""
    return UNOBSERVED
