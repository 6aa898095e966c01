"""Rounds above 100 clients over real gRPC, where each client has but some of the others as neighbours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from aggregator.errors import Equivocation
from aggregator.protocol.graph import COMPLETE_UP_TO, ThreatModel, degree
from aggregator.protocol.parameters import Mode
from aggregator.wire.messages import AdvertList, ServerMessage
from tests.loopback import Vanished, check_mean, hub, offers, parameters

CLIENTS = 105
FEW = 36  # the fewest of a roster of 105 that any threshold protects
MANY = {"clients_max": CLIENTS, "weight_max": 1_000}


class Lie:
    """A line on which the server shows one client more neighbours than the graph gives it, or fewer."""

    def __init__(self, inner, *, fewer: int) -> None:
        self._inner, self._fewer = inner, fewer

    @asynccontextmanager
    async def control(self) -> AsyncIterator["Lie"]:
        async with self._inner.control() as self._stream:
            yield self

    async def send(self, message) -> None:
        await self._stream.send(message)

    async def receive(self) -> ServerMessage:
        message = await self._stream.receive()
        if not isinstance(message.body, AdvertList):
            return message
        shown = message.body.neighbours[self._fewer :]
        return ServerMessage(message.round, replace(message.body, neighbours=shown))


@pytest.mark.parametrize("mode", [Mode.PAIRWISE, Mode.LATTICE])
async def test_above_100_clients_with_dropouts_at_two_steps_the_sum_is_exact(tmp_path, mode: Mode) -> None:
    assert CLIENTS > COMPLETE_UP_TO
    assert degree(CLIENTS, CLIENTS, ThreatModel()).k < CLIENTS - 1
    spec = parameters((50,), **MANY, mode=mode)
    offered = offers(CLIENTS, (50,))
    dies = {3: "share_keys", 20: "share_keys", 50: "masked_input", 77: "masked_input", 104: "consistency_check"}
    deceived = {60: {"wrap": lambda line: Lie(line, fewer=1)}}
    async with hub(tmp_path, CLIENTS) as h:
        await h.create(spec)
        run = await h.run_round(offered, dies=dies, how=deceived)
    assert {type(run.results[client]) for client in dies} == {Vanished}, run.results
    assert isinstance(run.results[60], Equivocation), run.results[60]
    assert str(run.results[60]) == "client 60: the adverts received are not those of its neighbours"
    gone = {3, 20, 50, 77, 60}
    got = run.operator
    survivors = [client for client in range(CLIENTS) if client not in gone]
    assert got.words.tolist() == run.plain_sum(survivors, spec.ring_bits)
    run.results[104] = got  # it left after its input had arrived, and hears nothing
    check_mean(run, offered, survivors, spec.ring_bits)


class Held:
    """A transport whose upload waits."""

    def __init__(self, inner, release: asyncio.Event, uploaded: list[str]) -> None:
        self._inner, self._release, self._uploaded = inner, release, uploaded
        self.control, self.fetch_result = inner.control, inner.fetch_result

    async def upload(self, parts):
        await self._release.wait()
        receipt = await self._inner.upload(parts)
        self._uploaded.append("large")
        return receipt


async def test_a_task_of_many_does_not_hold_up_another_one(tmp_path) -> None:
    """While all of the large one stand before their upload, the small one's three rounds come and go."""
    ended: list[str] = []
    release, large, small = asyncio.Event(), offers(CLIENTS, (50,)), offers(FEW)
    held = {client: {"wrap": lambda line: Held(line, release, ended)} for client in large}
    other = {client: {"journal": tmp_path / f"small-{client}.sqlite"} for client in small}
    async with hub(tmp_path, CLIENTS) as h:
        await h.create(parameters((50,), **MANY))
        await h.create(parameters(**MANY), task="small")
        running = asyncio.create_task(h.run_round(large, how=held))
        for number in range(3):
            run = await h.run_round(small, how=other, task="small", base={"x": np.array([number])})
            check_mean(run, small, list(small), parameters(**MANY).ring_bits)
            ended.append("small")
        release.set()
        check_mean(await running, large, list(large), parameters((50,), **MANY).ring_bits)
    assert ended == ["small"] * 3 + ["large"] * CLIENTS
