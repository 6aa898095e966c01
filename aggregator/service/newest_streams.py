"""One stream per upload: a newer one ends the older, which is dead and does not know it, or a double."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from aggregator.errors import Disconnected


class NewestStreams:
    """The streams that are open, at most one for each key."""

    def __init__(self) -> None:
        self._open: dict[Hashable, asyncio.Timeout] = {}

    @asynccontextmanager
    async def stream(self, key: Hashable) -> AsyncIterator[None]:
        """Be the stream of this key, for as long as the block lasts.

        Raises:
            Disconnected: a newer stream has begun; whatever the block was waiting for was given up. Not OutOfTurn,
                which ends an upload for good: the newer stream may be an older one that arrived late, and is dead.
        """
        older = self._open.get(key)
        if older is not None:
            older.reschedule(asyncio.get_running_loop().time())
        limit = self._open[key] = asyncio.timeout(None)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise Disconnected("a newer stream takes this upload's place") from None
        finally:
            if self._open.get(key) is limit:
                del self._open[key]
