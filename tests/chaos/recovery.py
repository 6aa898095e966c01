"""How long the server was away, as clients saw it: from a kill, and from its next start, to an answer it accepted."""

from collections.abc import Callable

from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind
from tests.chaos.tally import Tally


class Recovery:
    """Told of kills and starts of the server, and of what the operator hears of the rounds."""

    def __init__(self, tally: Tally, clock: Callable[[], float]) -> None:
        self._tally = tally
        self._clock = clock
        self._killed_at: float | None = None
        self._started_at = self._listening_at = clock()
        self._resumed = False

    def killed(self) -> None:
        """The server is gone."""
        self._killed_at = self._clock()
        self._resumed = False

    def starting(self) -> None:
        """It is started."""
        self._started_at = self._clock()

    def listening(self) -> None:
        """It listens."""
        self._listening_at = self._clock()
        self._tally.listening_s.append(self._listening_at - self._started_at)
        self._resumed = False

    def heard(self, event: RoundEvent) -> None:
        """One event of a round. An answer counts if a round was resumed before it."""
        if event.kind == EventKind.RESUMED:
            self._resumed = True
        if event.kind == EventKind.ANSWERED and self._resumed and self._killed_at is not None:
            self._tally.answered_s.append(self._clock() - self._killed_at)
            self._tally.reached_s.append(self._clock() - self._listening_at)
            self._killed_at = None
