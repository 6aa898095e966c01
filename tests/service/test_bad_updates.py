"""Updates that don't fit: named on the site's own machine, and to the server no more than that it withdrew."""

import asyncio

import numpy as np
import pytest

from aggregator.errors import ParameterError, StaleModel
from tests.loopback import PATIENT, check_mean, hub, offers, parameters

GOOD = 5
SECRET = 1.2345678


def update(**entries):
    values = np.full((2, 2), SECRET)
    for index, value in entries.items():
        values[tuple(map(int, index[1:]))] = value
    return {"x": values}


BAD = [
    (update(i01=np.nan), 10, "tensor 'x' is not finite at index (0, 1)"),
    (update(i10=np.inf), 10, "tensor 'x' is not finite at index (1, 0)"),
    (update(i11=-np.inf), 10, "tensor 'x' is not finite at index (1, 1)"),
    ({"y": np.full((2, 2), SECRET)}, 10, "missing ['x'], surplus ['y']"),
    ({"x": np.full((2, 3), SECRET)}, 10, "tensor 'x' has shape (2, 3), the task expects (2, 2)"),
    ({"x": np.full((2, 2), SECRET + 1j)}, 10, "tensor 'x' holds complex128, expected real numbers"),
    (update(), 0, "the weight is not among the 1 to 100 that this task allows"),
    (update(), 101, "the weight is not among the 1 to 100 that this task allows"),
    (update(), 56.789, "the weight is a float, it must be an integer"),
]


async def test_every_fault_is_named_to_its_site_and_to_nobody_else(tmp_path):
    """All in one round: nine bad updates beside five good ones. Only the good ones' keys ever leave."""
    spec = parameters((2, 2), clients_max=20)
    offered = offers(GOOD, (2, 2)) | {GOOD + i: (bad, weight) for i, (bad, weight, _) in enumerate(BAD)}
    async with hub(tmp_path, len(offered)) as h:
        await h.create(spec, PATIENT)
        run = await h.run_round(offered)
    for client, (_, _, named) in enumerate(BAD, start=GOOD):
        assert type(run.results[client]) is ParameterError
        assert named in str(run.results[client])
        assert run.watchers[client].steps == []
    withdrawn = [event for event in run.events if event.kind == "withdrew"]
    assert {event.client for event in withdrawn} == {f"site-{c:04}" for c in range(GOOD, len(offered))}
    assert {event.detail for event in withdrawn} == {"the site's own update does not fit the task"}
    assert {event.detail for event in run.events if event.kind != "withdrew"} == {""}
    check_mean(run, offered, range(GOOD), spec.ring_bits)


async def test_a_site_that_mends_its_update_may_come_back_to_the_same_round(tmp_path):
    """A refused update never entered the round: a new session, as of a new `sangam join`, still finds it open."""
    spec, offered = parameters(), offers(3)
    async with hub(tmp_path, 3) as h:
        await h.create(spec, PATIENT)
        async with h.join(0) as a, h.join(1) as b:
            number = await h.operator.start_round("sepsis")
            async with h.join(2) as c:
                with pytest.raises(ParameterError, match="is not finite at index"):
                    await c.contribute({"x": np.full(4, np.nan)}, weight=1)
            async with h.join(2) as c:
                mended = asyncio.create_task(c.contribute(offered[2][0], weight=10))
                async for event in h.operator.watch("sepsis", number):
                    if (event.kind, event.client) == ("answered", "site-0002"):
                        break
                others = [s.contribute(offered[i][0], weight=10) for i, s in enumerate((a, b))]
                results = await asyncio.gather(mended, *others)
        assert [(result.round, len(result.participants)) for result in results] == [(number, 3)] * 3


async def test_stale_model(tmp_path):
    """Who starts from another model is told so, fetches the last result, and is in the next round."""
    spec, offered = parameters(), offers(4)
    zero = {"x": np.zeros(4)}
    async with hub(tmp_path, 4) as h:
        await h.create(spec, PATIENT)
        async with h.join(3) as behind:

            async def stale():
                with pytest.raises(StaleModel, match="starts from another model than `base`: fetch the last result"):
                    await behind.contribute(offered[3][0], weight=1, base={"x": np.ones(4)})

            first, _ = await asyncio.gather(h.run_round({c: offered[c] for c in range(3)}, base=zero), stale())
            check_mean(first, offered, range(3), spec.ring_bits)
            assert ("site-0003", "advertise_keys") in first.told("withdrew")
            model = {"x": zero["x"] + (await behind.fetch_result()).mean["x"]}
            late = asyncio.create_task(behind.contribute(offered[3][0], weight=offered[3][1], base=model))
            second = await h.run_round({c: offered[c] for c in range(3)}, base=model)
            assert (await late).round == second.number
            assert second.operator.words.tolist() == (await late).words.tolist()
            assert len(second.operator.participants) == 4


async def test_one_contribution_at_a_time(tmp_path):
    async with hub(tmp_path, 3) as h:
        await h.create(parameters())
        async with h.join(0) as session:
            first = asyncio.create_task(session.contribute({"x": np.zeros(4)}, weight=1))
            await asyncio.sleep(0)
            with pytest.raises(ParameterError, match="already contributing"):
                await session.contribute({"x": np.zeros(4)}, weight=1)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
