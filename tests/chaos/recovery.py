"""How long the server was away, as its clients saw it: from a kill to the next answer that it accepted."""

from collections.abc import Callable

from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind
from tests.chaos.tally import Tally

BACK = frozenset({EventKind.RESUMED, EventKind.STEP, EventKind.GATHERING})


class Recovery:
    """Told of kills and starts of the server, and of what the operator hears of the rounds."""

    def __init__(self, tally: Tally, clock: Callable[[], float]) -> None:
        self._tally = tally
        self._clock = clock
        self._killed_at: float | None = None
        self._started_at = clock()
        self._back = False

    def killed(self) -> None:
        """The server is gone."""
        self._killed_at = self._clock()
        self._back = False

    def starting(self) -> None:
        """It is started."""
        self._started_at = self._clock()

    def listening(self) -> None:
        """It listens."""
        self._tally.listening_s.append(self._clock() - self._started_at)
        self._back = False

    def heard(self, event: RoundEvent) -> None:
        """One event of a round. An answer counts if the restarted server was heard before it."""
        if event.kind == EventKind.RESUMED:
            self._back = True
        if event.kind == EventKind.ANSWERED and self._back and self._killed_at is not None:
            self._tally.answered_s.append(self._clock() - self._killed_at)
            self._killed_at = None
