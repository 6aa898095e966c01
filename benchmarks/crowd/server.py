"""The server of a run: the very server that `sangam serve` runs, and what memory it takes."""

import asyncio
from multiprocessing.connection import Connection

from aggregator.config import ServerConfig
from aggregator.local import child, machine
from aggregator.service.app import serve

PEAK = 0  # what the starter says to be told of it


def main(config: ServerConfig, pipe: Connection) -> None:
    """Serve until the starter hangs up. The target of its process."""
    child.settle(config.identity)
    asyncio.run(_serve(config, pipe))


async def _serve(config: ServerConfig, pipe: Connection) -> None:
    starter = child.Starter(pipe)
    async with serve(config) as running:
        starter.tell(port=running.port, idle=machine.resident_bytes())
        machine.reset_peak()
        await starter.reaches(PEAK)
        starter.tell(peak=machine.peak_bytes())
        await running.wait()
