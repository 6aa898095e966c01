"""How long a step waits, and for whom: all that a round knows of time.

A step ends when all who may still answer have, or at its deadline. A client whose line broke may come back within
`reconnect_s`.
"""

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, Final

from aggregator.protocol.cohort import ClientId
from aggregator.rounds.lines import Lines
from aggregator.rounds.phase import Phase
from aggregator.wire.operator_messages import Deadlines
from aggregator.wire.vocabulary import MASKED_STEPS, Step

AN_HOUR_S: Final = 3_600.0
_ALIKE: Final = {Step.COMMIT_INPUT: Step.ADVERTISE_KEYS, Step.UPLOAD: Step.MASKED_INPUT}


def wait_s(deadlines: Deadlines, step: Step) -> float:
    """How long a step waits, seconds: a homomorphic one as the masked one that is like it, or as parties are given."""
    alike = _ALIKE.get(step, step)
    if alike in MASKED_STEPS:
        return float(getattr(deadlines, f"{alike}_s"))
    return deadlines.party_s or AN_HOUR_S


class Waiting:
    """One round's waiting for its clients, from now on.

    Args:
        deadlines: how long each step waits, seconds.
        lines: who is connected.
        clock: seconds, monotonic.
        name: of a client, as the lines know it.
        reconnect_s: how long a client whose line is broken is waited for.
    """

    def __init__(
        self,
        deadlines: Deadlines,
        lines: Lines,
        clock: Callable[[], float],
        name: Callable[[ClientId], str],
        reconnect_s: float,
    ) -> None:
        self._deadlines = deadlines
        self._reconnect_s = reconnect_s
        self._lines = lines
        self._clock = clock
        self._name = name
        self._start = clock()

    def time_s(self, step: Step) -> float:
        """How long a step waits, seconds."""
        return wait_s(self._deadlines, step)

    async def collect(self, phase: Phase[Any], withdrawn: AbstractSet[ClientId], left_s: float) -> None:
        """Wait until all who may answer have, or too few are left to, or until the deadline.

        While too few have answered, a line that is away for long may still come back and save the round.

        Args:
            phase: whose answers are awaited.
            withdrawn: who will not answer; it may change meanwhile.
            left_s: of the step's time; a step whose time is over goes on with what it has.
        """
        deadline = self._clock() + left_s
        while True:
            self._lines.changed.clear()
            now = self._clock()
            hopeful = phase.awaited - withdrawn
            hopes = [self._hope_until(client, deadline) for client in hopeful]
            waiting = [until for until in hopes if until > now]
            hopeless = len(phase.answers) + len(hopeful) < phase.needed
            if now >= deadline or hopeless or (phase.ready and not waiting):
                return
            wake_at = min([deadline, *waiting])
            try:
                async with asyncio.timeout(wake_at - now):
                    await self._lines.changed.wait()
            except TimeoutError:
                continue

    def _hope_until(self, client: ClientId, deadline: float) -> float:
        """Until when an answer of this client is worth waiting for."""
        if self._lines.is_connected(self._name(client)):
            return deadline
        away_since = max(self._lines.away_since(self._name(client)), self._start)
        return min(deadline, away_since + self._reconnect_s)
