"""The aggregator: the very server that `sangam serve` runs, which SIGTERM stops as gently.

One thing is as with rounds of a gigabyte: running sums are written down, so that uploads need not stay.
"""

import asyncio
import signal
from multiprocessing.connection import Connection
from typing import Final
from unittest.mock import patch

from aggregator.config import ServerConfig
from aggregator.local import child
from aggregator.rounds import writing
from aggregator.service.app import serve

FOLD_BYTES: Final = 100_000
FOLD_UPLOADS: Final = 3


def main(config: ServerConfig, pipe: Connection) -> None:
    """Serve until SIGTERM, or until the starter hangs up; its port is the one message. The target of its process."""
    child.settle(config.identity)
    with patch.multiple(writing, FOLD_BYTES=FOLD_BYTES, FOLD_UPLOADS=FOLD_UPLOADS):
        asyncio.run(_serve(config, pipe))


async def _serve(config: ServerConfig, pipe: Connection) -> None:
    starter, stopped = child.Starter(pipe), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with serve(config) as running:
        starter.tell(port=running.port)
        await stopped.wait()
        await running.drain(config.drain_s)
