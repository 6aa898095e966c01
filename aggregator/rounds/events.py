"""What happened in a round, in order, for whoever watches: operators now, metrics and logs later."""

import asyncio
from collections.abc import AsyncIterator, Callable

from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind, Step, sentence


class EventLog:
    """The events of one round; readers follow from the beginning until the round ends.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start = clock()
        self._events: list[RoundEvent] = []
        self._ended = False
        self._grown = asyncio.Event()

    def add(self, kind: EventKind, step: Step, *, client: str = "", detail: str = "", clients: int = 0) -> None:
        """Append one event, with the time since the round's start."""
        seconds = self._clock() - self._start
        self._events.append(RoundEvent(seconds, kind, step, client, sentence(detail), clients))
        self._ended |= kind in {EventKind.CLOSED, EventKind.FAILED}
        self._grown.set()
        self._grown = asyncio.Event()

    async def follow(self) -> AsyncIterator[RoundEvent]:
        """All events from the first; ends with the round."""
        seen = 0
        while True:
            grown = self._grown
            for event in self._events[seen:]:
                yield event
                seen += 1
            if self._ended and seen == len(self._events):
                return
            if seen == len(self._events):
                await grown.wait()
