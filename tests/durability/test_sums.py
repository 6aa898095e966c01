"""A round takes the room of some uploads, not of all: a sum on the disk takes their place."""

import asyncio
import threading
from contextlib import AsyncExitStack

import pytest

import clients
from aggregator.protocol.parameters import Mode
from aggregator.rounds import writing
from aggregator.service.app import serve
from aggregator.wire.vocabulary import Step
from tests.consortium import Consortium
from tests.loopback import PATIENT, Hub, check_mean, configured, offers, operator, parameters, until

N = 6
SHAPE = (30_000,)


@pytest.mark.parametrize("mode", [Mode.PAIRWISE, Mode.LATTICE])
async def test_a_sum_on_the_disk_and_the_uploads_behind_it_are_gone_on_with(mode, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "FOLD_BYTES", 0)
    monkeypatch.setattr(writing, "FOLD_UPLOADS", 2)
    config, spool = configured(tmp_path, Consortium.of(N), state=tmp_path / "state"), tmp_path / "state" / "spool"
    spec, offered, held = parameters(SHAPE, mode=mode), offers(N, SHAPE), threading.Event()
    async with asyncio.timeout(30), AsyncExitStack() as stack:
        first = AsyncExitStack()
        running = await first.enter_async_context(serve(config))
        address = f"localhost:{running.port}"
        leader = await stack.enter_async_context(clients.operate(address, operator()))
        hub = Hub(running.port, Consortium.of(N), tmp_path, leader, None, running)
        await hub.create(spec, PATIENT)
        calls = {N - 1: lambda step: held.wait() if step == Step.MASKED_INPUT else None}
        playing = asyncio.create_task(hub.run_round(offered, calls=calls))
        try:
            files = [""]
            while sorted(name.partition("-")[0] for name in files) != ["sum", "upload", "upload"]:
                files = [path.name for path in spool.rglob("*-*")]  # three of five uploads are in the sum
                await asyncio.sleep(0)
            await until(lambda: not running.tasks.find("sepsis").driver(_round(running))._turn.locked())
            await first.aclose()
            again = serve(configured(tmp_path, Consortium.of(N), state=tmp_path / "state", address=address))
            await stack.enter_async_context(again)
        finally:
            held.set()
        check_mean(await playing, offered, range(N), spec.ring_bits)
        assert not list(spool.rglob("*-*"))


def _round(running):
    return running.tasks.find("sepsis").history.running.number
