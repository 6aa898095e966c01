"""One stream per upload: a newer one ends the older, which is dead and does not know it, or a double."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aggregator.errors import Disconnected, SangamError


@dataclass(slots=True, eq=False)
class _Stream:
    limit: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))
    error: SangamError | None = None  # why it was ended from outside


class NewestStreams:
    """The streams that are open, at most one for each key."""

    def __init__(self) -> None:
        self._open: dict[Hashable, _Stream] = {}

    @asynccontextmanager
    async def stream(self, key: Hashable) -> AsyncIterator[None]:
        """Be the stream of this key, for as long as the block lasts.

        Raises:
            Disconnected: a newer stream has begun; whatever the block was waiting for was given up. Not OutOfTurn,
                which ends an upload for good: the newer stream may be an older one that arrived late, and is dead.
            SangamError: as given to `end`.
        """
        self.end(key, Disconnected("a newer stream takes this upload's place"))
        mine = self._open[key] = _Stream()
        try:
            async with mine.limit:
                yield
        except (TimeoutError, SangamError):  # what it met after its end, as a destroyed upload, counts no more
            if mine.error is None:
                raise
            raise mine.error from None
        finally:
            if self._open.get(key) is mine:
                del self._open[key]

    def end(self, key: Hashable, error: SangamError) -> None:
        """End the stream of this key, if there is one, with this error."""
        stream = self._open.get(key)
        if stream is not None and stream.error is None:
            stream.error = error
            stream.limit.reschedule(asyncio.get_running_loop().time())
