"""The aggregator on this machine: the very server that `sangam serve` runs, in a process of its own."""

import asyncio
from multiprocessing.connection import Connection

from aggregator.config import ServerConfig
from aggregator.local import child
from aggregator.service.app import serve


def main(config: ServerConfig, pipe: Connection) -> None:
    """Serve until the starter hangs up; its port is the one message. The target of its process."""
    child.settle(config.identity)
    asyncio.run(_serve(config, pipe))


async def _serve(config: ServerConfig, pipe: Connection) -> None:
    starter = child.Starter(pipe)
    async with serve(config) as running:
        starter.tell(port=running.port)
        await running.wait()
