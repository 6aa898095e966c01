"""A round's events, each once, over as many streams as it takes."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeAlias

from aggregator.wire.operator_messages import RoundEvent
from clients.retry import HEALS, patiently

Events: TypeAlias = AsyncGenerator[RoundEvent, None]


async def follow(open_stream: Callable[[], Events], patience_s: float) -> Events:
    """All events of a round; when a stream breaks, another one goes on behind the last event that came.

    So it does when the server's disk is full: an event that it cannot write down yet is not told.

    Args:
        open_stream: a stream of the round's events from its beginning, always the same ones.
        patience_s: how long a broken line is retried, seconds.

    Raises:
        SangamError: as the streams; Disconnected when patience ran out.
    """
    seen = 0
    while True:
        begun: tuple[list[RoundEvent], Events] = await patiently(patience_s)(_begun, open_stream, seen)
        new, stream = begun
        try:
            async with aclosing(stream):
                for event in new:
                    seen += 1
                    yield event
                async for event in stream:
                    seen += 1
                    yield event
        except HEALS:
            continue
        return


async def _begun(open_stream: Callable[[], Events], seen: int) -> tuple[list[RoundEvent], Events]:
    """A stream behind the events that were seen; with its first event, where that is new.

    A round has an event from its start on, so one that comes shows that the line works.
    """
    stream, past = open_stream(), list[RoundEvent]()
    async for event in stream:
        past.append(event)
        if len(past) >= max(seen, 1):
            break
    return past[seen:], stream
