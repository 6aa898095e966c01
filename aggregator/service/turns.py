"""Whose bytes may come, or go: uploads take turns, and so does what is announced. Of the others nothing is held here.

64 uploads of 16 MB at once took 1.1 GB of this server's memory, most of it in gRPC's buffers, and what was staged went
to disk. A slow or silent line must not hold the others up: its turn ends when nothing moved for `idle_s`, though its
transfer may go on, and nobody waits for longer than `patience_s`. Nor must a task of a thousand clients hold up a task
of three: the tasks take turns, and within each the transfers do, in the order in which they came.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aggregator.service.fair_queue import FairQueue

AT_ONCE_BYTES = 16 << 20
IDLE_S = 2.0
PATIENCE_S = 10.0


class Turn:
    """One transfer's turn, while it makes progress."""

    def __init__(self, payload_bytes: int, ended: Callable[[int], None], idle_s: float) -> None:
        self._payload_bytes = payload_bytes
        self._ended = ended
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._watch: asyncio.TimerHandle | None = self._loop.call_later(idle_s, self._look)

    def progress(self) -> None:
        """Something of it has moved."""
        self._last = self._loop.time()

    def end(self) -> None:
        """Let the next one in; may be called twice."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
            self._ended(self._payload_bytes)

    def _look(self) -> None:
        idle_at = self._last + self._idle_s
        if idle_at <= self._loop.time():
            self.end()
        else:
            self._watch = self._loop.call_at(idle_at, self._look)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    payload_bytes: int
    called: asyncio.Event = field(default_factory=asyncio.Event)


class Turns:
    """The transfers' turns: one task after the other, in each task first come, first served.

    Args:
        at_once_bytes: of all transfers that are on their way; one alone may be larger.
        idle_s: how long a turn lasts without progress.
        patience_s: how long a transfer waits for its turn before it begins anyway.
    """

    def __init__(
        self, at_once_bytes: int = AT_ONCE_BYTES, idle_s: float = IDLE_S, patience_s: float = PATIENCE_S
    ) -> None:
        self._at_once_bytes = at_once_bytes
        self._idle_s = idle_s
        self._patience_s = patience_s
        self._reading_bytes = 0
        self._queue: FairQueue[_Waiting] = FairQueue()

    @property
    def waiting(self) -> int:
        """How many transfers wait for their turn."""
        return len(self._queue)

    @asynccontextmanager
    async def turn(self, task: str, payload_bytes: int) -> AsyncIterator[Turn]:
        """Wait for a turn; it ends with the block, or before.

        Args:
            task: whose transfer it is.
            payload_bytes: what is still to be moved of it.
        """
        await self._called(task, _Waiting(payload_bytes))
        turn = Turn(payload_bytes, self._give_back, self._idle_s)
        try:
            yield turn
        finally:
            turn.end()

    async def _called(self, task: str, mine: _Waiting) -> None:
        self._queue.add(task, mine)
        self._call()
        try:
            async with asyncio.timeout(self._patience_s):
                await mine.called.wait()
        except TimeoutError:
            if not mine.called.is_set():
                self._reading_bytes += mine.payload_bytes
                self._leave(task, mine)
        except BaseException:
            if mine.called.is_set():
                self._give_back(mine.payload_bytes)
            else:
                self._leave(task, mine)  # whose caller has gone
            raise

    def _leave(self, task: str, waiting: _Waiting) -> None:
        self._queue.remove(task, waiting)
        self._call()

    def _give_back(self, payload_bytes: int) -> None:
        self._reading_bytes -= payload_bytes
        self._call()

    def _call(self) -> None:
        """Call whose turn it is, as many as there is room for."""
        while self._queue and self._fits(self._queue.first.payload_bytes):
            called = self._queue.take()
            self._reading_bytes += called.payload_bytes
            called.called.set()

    def _fits(self, payload_bytes: int) -> bool:
        return not self._reading_bytes or self._reading_bytes + payload_bytes <= self._at_once_bytes
