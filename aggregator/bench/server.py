"""The server of a benchmark run: the very server that `sangam serve` runs, the plain service beside it.

starter --> server   2k + 1: round k begins; 2k + 2: it has ended
starter <-- server   at first its port and its idle memory; at a begin nothing but "begun"; at an end what it cost
"""

import asyncio
from dataclasses import dataclass
from multiprocessing.connection import Connection

from aggregator.bench import memory
from aggregator.bench.plain import PlainService, mounted
from aggregator.bench.settings import TASK, Kind, Settings
from aggregator.config import ServerConfig
from aggregator.local import child
from aggregator.service.app import Running, serve

PEAK = "peak"


@dataclass(frozen=True, slots=True)
class Serving:
    """All that the server is told when its process starts."""

    config: ServerConfig
    settings: Settings


def main(serving: Serving, pipe: Connection) -> None:
    """Serve until the starter hangs up. The target of its process."""
    child.settle(serving.config.identity)
    asyncio.run(_serve(serving, pipe))


async def _serve(serving: Serving, pipe: Connection) -> None:
    starter, plain, settings = child.Starter(pipe), list[PlainService](), serving.settings
    async with serve(serving.config, [mounted(settings.plain_plan, settings.survivors, plain)]) as running:
        starter.tell(port=running.port, idle=memory.resident_bytes())
        for index, kind in enumerate(settings.rounds):
            await starter.reaches(2 * index + 1)
            memory.reset_peak()
            starter.tell(begun=index)
            await starter.reaches(2 * index + 2)
            starter.tell(**_seconds(kind, running, plain[0]), **{PEAK: memory.peak_bytes()})
        await running.wait()


def _seconds(kind: Kind, running: Running, plain: PlainService) -> dict[str, float]:
    """What the round cost, by part."""
    if kind is Kind.SECURE:
        return dict(running.tasks.find(TASK).cpu_seconds)
    return dict(plain.round.meter.seconds) if plain.round is not None else {}
