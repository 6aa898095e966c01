"""How many uploads come at once. The others wait in their senders' memory, and nothing of them is held here.

64 uploads of 16 MB at once took 1.1 GB of this server's memory, most of it in gRPC's buffers, and what was staged went
to disk. A slow or silent line must not hold the others up: its turn ends when nothing came for `idle_s`, though its
upload may go on, and nobody waits for longer than `patience_s`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

AT_ONCE_BYTES = 16 << 20
IDLE_S = 2.0
PATIENCE_S = 10.0


class Turn:
    """One upload's turn, while its chunks keep coming."""

    def __init__(self, payload_bytes: int, ended: Callable[[int], None], idle_s: float) -> None:
        self._payload_bytes = payload_bytes
        self._ended = ended
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._watch: asyncio.TimerHandle | None = self._loop.call_later(idle_s, self._look)

    def progress(self) -> None:
        """A chunk came."""
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


class Admission:
    """First come, first served.

    Args:
        at_once_bytes: of all uploads that are on their way; one alone may be larger.
        idle_s: how long a turn lasts without a chunk.
        patience_s: how long an upload waits for its turn before it comes anyway.
    """

    def __init__(
        self, at_once_bytes: int = AT_ONCE_BYTES, idle_s: float = IDLE_S, patience_s: float = PATIENCE_S
    ) -> None:
        self._at_once_bytes = at_once_bytes
        self._idle_s = idle_s
        self._patience_s = patience_s
        self._reading_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Event]] = deque()

    @asynccontextmanager
    async def turn(self, payload_bytes: int) -> AsyncIterator[Turn]:
        """Wait for a turn; it ends with the block, or before."""
        if self._waiting or not self._fits(payload_bytes):
            await self._wait(payload_bytes)
        self._reading_bytes += payload_bytes
        self._call_next()
        turn = Turn(payload_bytes, self._give_back, self._idle_s)
        try:
            yield turn
        finally:
            turn.end()

    async def _wait(self, payload_bytes: int) -> None:
        mine = payload_bytes, asyncio.Event()
        self._waiting.append(mine)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s):
                    await mine[1].wait()
        except BaseException:
            self._waiting.remove(mine)  # whose caller has left
            self._call_next()
            raise
        self._waiting.remove(mine)

    def _give_back(self, payload_bytes: int) -> None:
        self._reading_bytes -= payload_bytes
        self._call_next()

    def _fits(self, payload_bytes: int) -> bool:
        return not self._reading_bytes or self._reading_bytes + payload_bytes <= self._at_once_bytes

    def _call_next(self) -> None:
        """Wake the first in the queue; it calls the next one when it has gone."""
        if self._waiting and self._fits(self._waiting[0][0]):
            self._waiting[0][1].set()
