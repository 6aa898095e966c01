"""How many uploads are read at once: as many as stay near the processor, since the others wait where they are.

An upload that is not read waits in its sender's memory: gRPC's flow control holds it back. Read one after the other,
uploads are added while they are still in cache, and what is staged stays small; all at once, 64 of 16 MB fill the
staging budget and go to disk. A slow line must not hold the others up, so nobody waits for longer than `patience_s`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

AT_ONCE_BYTES = 32 << 20
PATIENCE_S = 2.0


class Admission:
    """First come, first served.

    Args:
        at_once_bytes: of all uploads that are being read; one alone may be larger.
        patience_s: how long an upload waits for its turn before it is read anyway.
    """

    def __init__(self, at_once_bytes: int = AT_ONCE_BYTES, patience_s: float = PATIENCE_S) -> None:
        self._at_once_bytes = at_once_bytes
        self._patience_s = patience_s
        self._reading_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Event]] = deque()

    @asynccontextmanager
    async def turn(self, payload_bytes: int) -> AsyncIterator[None]:
        """Wait for a turn; it ends with the block."""
        if self._waiting or not self._fits(payload_bytes):
            await self._wait(payload_bytes)
        self._reading_bytes += payload_bytes
        self._call_next()
        try:
            yield
        finally:
            self._reading_bytes -= payload_bytes
            self._call_next()

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

    def _fits(self, payload_bytes: int) -> bool:
        return not self._reading_bytes or self._reading_bytes + payload_bytes <= self._at_once_bytes

    def _call_next(self) -> None:
        """Wake the first in the queue; it calls the next one when it has gone."""
        if self._waiting and self._fits(self._waiting[0][0]):
            self._waiting[0][1].set()
