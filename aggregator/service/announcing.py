"""Large announcements go out in turns: what a round says to a thousand clients at once would all lie in memory.

The roster of 1,000 sites is 0.9 MB, and gRPC takes a copy of each message that it has not yet sent: 1 GB. A line that
takes nothing holds its turn for `IDLE_S`, a slow one likewise, so that slow lines are many at a time.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aggregator.service.turns import Turns
from aggregator.wire.messages import AdvertList, RoundOpened, ServerBody, ShareList

AT_ONCE_BYTES: Final = 16 << 20
IDLE_S: Final = 1.0
PATIENCE_S: Final = 60.0
SMALL_BYTES: Final = 16 << 10  # an announcement that waits for nobody

LISTED_BYTES: Final = 40  # of one item, about
NEIGHBOUR_BYTES: Final = 210
ENVELOPE_BYTES: Final = 600


class Announcing:
    """Whose announcement goes out now; by task, as uploads come in."""

    def __init__(self) -> None:
        self._turns = Turns(AT_ONCE_BYTES, IDLE_S, PATIENCE_S)

    @asynccontextmanager
    async def turn(self, task: str, body: ServerBody) -> AsyncIterator[None]:
        """Wait until this may be encoded and sent; the block sends it."""
        size = size_of(body)
        if size < SMALL_BYTES:
            yield
            return
        async with self._turns.turn(task, size):
            yield


def size_of(body: ServerBody) -> int:
    """About how many bytes it has, found without encoding it."""
    match body:
        case RoundOpened():
            return len(body.roster)
        case AdvertList():
            return LISTED_BYTES * len(body.listed) + NEIGHBOUR_BYTES * len(body.neighbours)
        case ShareList():
            return ENVELOPE_BYTES * len(body.envelopes)
    return 0
