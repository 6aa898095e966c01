"""A Sangam server on this machine, for a roster of one site more than the example's job has."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

import pytest

from aggregator.config import ServerConfig
from aggregator.local import consortium
from aggregator.service.app import serve

SITES = ("site-1", "site-2", "site-3", "site-4")


@dataclass(frozen=True)
class Hub:
    address: str
    identities: Path


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    members = consortium.found(tmp_path_factory.mktemp("consortium"), SITES, datetime.now(UTC))
    started = SimpleQueue()

    async def run():
        stop = asyncio.Event()
        async with serve(ServerConfig(f"{consortium.HOST}:0", members.aggregator, members.roster)) as running:
            started.put((running.port, asyncio.get_running_loop(), stop))
            await stop.wait()

    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_grpc_proxy", consortium.HOST)  # NVFlare's processes inherit it
        ended = pool.submit(asyncio.run, run())
        port, loop, stop = started.get(timeout=60)
        yield Hub(f"{consortium.HOST}:{port}", members.directory)
        loop.call_soon_threadsafe(stop.set)
        ended.result()
