"""Large announcements go out in turns: what a round says to a thousand clients at once would all lie in memory.

The roster of 1,000 sites has 0.7 MB, and gRPC holds a copy for each line until it has left: 0.7 GB for slow lines.
That a message was handed to gRPC says nothing; that the client answers does. A client that does not answer, for it is
slow or has nothing to say, holds its turn for `TURN_S`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from aggregator.service.turns import Turns
from aggregator.wire.messages import AdvertList, FrozenList, RoundOpened, ServerBody, ShareList

AT_ONCE_BYTES: Final = 32 << 20
TURN_S: Final = 1.0
PATIENCE_S: Final = 1_800.0
SMALL_BYTES: Final = 16 << 10  # an announcement that waits for nobody

LISTED_BYTES: Final = 40  # of one item, about
NEIGHBOUR_BYTES: Final = 210
RECEIVED_BYTES: Final = 600
COMMITTED_BYTES: Final = 120


class Announcing:
    """Whose announcement goes out now: by task, as uploads come in.

    Args:
        at_once_bytes: of all announcements that are on their way.
        turn_s: how long one is waited for that nobody answers.
    """

    def __init__(self, at_once_bytes: int = AT_ONCE_BYTES, turn_s: float = TURN_S) -> None:
        self._turns = Turns(at_once_bytes, turn_s, PATIENCE_S)
        self._turn_s = turn_s
        self._unanswered: dict[tuple[str, str], asyncio.Event] = {}

    @asynccontextmanager
    async def turn(self, task: str, site: str, body: ServerBody) -> AsyncIterator[None]:
        """Wait until this may be encoded and sent; the block sends it, and ends when it has arrived."""
        size = size_of(body)
        if size < SMALL_BYTES:
            yield
            return
        async with self._turns.turn(task, size):
            answered = self._unanswered[task, site] = asyncio.Event()
            try:
                yield
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._turn_s):
                        await answered.wait()
            finally:
                if self._unanswered.get((task, site)) is answered:
                    del self._unanswered[task, site]

    def answered(self, task: str, site: str) -> None:
        """A site has said something: what it was told before has arrived."""
        if (task, site) in self._unanswered:
            self._unanswered[task, site].set()


def size_of(body: ServerBody) -> int:
    """About how many bytes it has, found without encoding it."""
    match body:
        case RoundOpened():
            return len(body.roster) + sum(len(key.published.public_key) for key in body.key)
        case AdvertList():
            return LISTED_BYTES * len(body.listed) + NEIGHBOUR_BYTES * len(body.neighbours)
        case ShareList():
            return RECEIVED_BYTES * len(body.envelopes)
        case FrozenList():
            return COMMITTED_BYTES * len(body.commitments)
    return 0
