"""What is on the terminal while the demo trains: one bar for the rounds, the step and whom it lost beside it."""

from collections.abc import Iterator
from contextlib import contextmanager

from aggregator.local import screen
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind

LOST = {EventKind.DROPPED, EventKind.WITHDREW}
BETWEEN = "hospitals train"
KILLED = "hub killed"


class Screen(screen.Screen):
    """The demo's lines and its bar."""

    @contextmanager
    def rounds(self, count: int) -> Iterator["Bar"]:
        """A bar for that many rounds."""
        with self.bar("rounds", count, "training") as bar:
            yield Bar(bar)


class Bar:
    """The bar; told of every event of every round."""

    def __init__(self, bar: screen.Bar) -> None:
        self._bar = bar
        self._step = BETWEEN
        self._lost: list[str] = []

    def hub_killed(self) -> None:
        """It is away until its next event."""
        self._bar.say(f"[red]{KILLED}")

    def show(self, event: RoundEvent) -> None:
        """One event of the running round."""
        match event.kind:
            case EventKind.STEP:
                self._step = event.step
            case kind if kind in LOST:
                self._lost.append(event.client.rpartition("-")[2])
            case EventKind.CLOSED:
                self._lost.clear()
                self._step = BETWEEN
                self._bar.advance()
        lost = "[red]lost " + " ".join(self._lost) if self._lost else ""
        self._bar.say(f"{self._step:<17} {lost}")
