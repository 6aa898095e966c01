"""A server of a benchmark run: the very server that `sangam serve` runs, the plain service beside it.

What it hears and says: `signals`.
"""

import asyncio
from dataclasses import dataclass
from multiprocessing.connection import Connection

from aggregator.bench import signals
from aggregator.bench.plain import PlainService
from aggregator.bench.settings import TASK, Kind, Settings
from aggregator.config import ServerConfig
from aggregator.local import child, machine
from aggregator.service.app import Running, serve

PEAK = "peak"
WRITTEN = "written"


@dataclass(frozen=True, slots=True)
class Serving:
    """All that the server is told when its process starts; `kinds` are those of its rounds."""

    config: ServerConfig
    settings: Settings
    kinds: frozenset[Kind]


def main(serving: Serving, pipe: Connection) -> None:
    """Serve until the starter hangs up. The target of its process."""
    child.settle(serving.config.identity)
    asyncio.run(_serve(serving, pipe))


async def _serve(serving: Serving, pipe: Connection) -> None:
    starter, settings = child.Starter(pipe), serving.settings
    plain = PlainService(settings.plain_plan, settings.survivors)
    async with serve(serving.config, [plain.mount]) as running:
        starter.tell(port=running.port, idle=machine.resident_bytes())
        for index, kind in enumerate(settings.rounds):
            if kind not in serving.kinds:
                continue
            await starter.reaches(signals.begin(index))
            machine.reset_peak()
            before = machine.written_bytes()
            starter.tell(begun=index)
            await starter.reaches(signals.proceed(index))
            written = machine.written_bytes() - before if before >= 0 else -1
            starter.tell(**_seconds(kind, running, plain), **{PEAK: machine.peak_bytes(), WRITTEN: written})
        await running.wait()


def _seconds(kind: Kind, running: Running, plain: PlainService) -> dict[str, float]:
    """What the round cost, by part."""
    if kind is not Kind.PLAIN:
        return dict(running.tasks.find(TASK).cpu_seconds)
    return dict(plain.round.meter.seconds) if plain.round is not None else {}
