"""What happened in a round, in order, for whoever watches: operators, and the round's observer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from aggregator.rounds.observing import UNOBSERVED, Observer
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind, Step, sentence

ENDS: Final = frozenset({EventKind.CLOSED, EventKind.FAILED})


class EventLog:
    """The events of one round; readers follow from the beginning until the round ends.

    Args:
        clock: seconds, monotonic.
        observer: is told of each event at once.
        noted: the same, to write it down.
        past: the events that there were before the server started again.
        age_s: since the round's start.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        observer: Observer = UNOBSERVED,
        noted: Callable[[RoundEvent], None] | None = None,
        past: Sequence[RoundEvent] = (),
        age_s: float = 0.0,
    ) -> None:
        self._clock = clock
        self.observer = observer
        self._noted = noted
        self._start = clock() - age_s
        self._events = list(past)
        self._end = next((event for event in past if event.kind in ENDS), None)
        self.forgotten = False
        self._grown = asyncio.Event()

    def __len__(self) -> int:
        return len(self._events)

    @property
    def seconds(self) -> float:
        """Since the round's start."""
        return self._clock() - self._start

    @property
    def end(self) -> RoundEvent | None:
        """The event that ended the round; None while it has not."""
        return self._end

    def add(self, kind: EventKind, step: Step | None, *, client: str = "", detail: str = "", clients: int = 0) -> None:
        """Append one event, with the time since the round's start; `step` is None before the first."""
        event = RoundEvent(self.seconds, kind, step or "", client, sentence(detail), clients)
        self._events.append(event)
        if self._end is None and kind in ENDS:
            self._end = event
        self.observer.happened(event)
        if self._noted is not None:
            self._noted(event)
        self._grown.set()
        self._grown = asyncio.Event()

    def forget(self) -> None:
        """Drop the events of a round that has ended."""
        self._events, self.forgotten = [], True

    async def follow(self) -> AsyncIterator[RoundEvent]:
        """All events from the first; ends with the round."""
        seen = 0
        while True:
            grown = self._grown
            for event in self._events[seen:]:
                yield event
                seen += 1
            if self._end is not None and seen >= len(self._events):
                return
            if seen == len(self._events):
                await grown.wait()
