"""What happened in a round, in order, for whoever watches: operators now, metrics and logs later."""

import asyncio
from collections.abc import AsyncIterator, Callable
from enum import StrEnum

from aggregator.rounds.phase import Step
from aggregator.wire.messages import REASON_BYTES_MAX, RoundEvent


class EventKind(StrEnum):
    """What an event says."""

    STEP = "step"
    ANSWERED = "answered"
    DROPPED = "dropped"
    WITHDREW = "withdrew"
    REFUSED = "refused"
    COMPLAINT = "complaint"
    CLOSED = "closed"
    FAILED = "failed"


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
        self._events.append(RoundEvent(seconds, kind, step, client, clip_text(detail), clients))
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


def clip_text(text: str) -> str:
    """A sentence that fits the wire, without control characters: it ends in an operator's terminal."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
