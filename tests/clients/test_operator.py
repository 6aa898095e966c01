import asyncio
from dataclasses import replace

import numpy as np
import pytest

import clients
from aggregator.errors import NameTaken, NotFound, ParameterError, RoundAborted
from aggregator.wire import operator_messages
from aggregator.wire.messages import Tensor
from aggregator.wire.operator_messages import Opening, Retention, TaskCreated
from clients.operator import default_deadlines
from tests.loopback import BRISK, PATIENT, hub, offers, parameters


async def test_a_task_is_created_once_and_found_again(tmp_path):
    async with hub(tmp_path, 3) as h:
        create = h.operator.create_task
        assert await create("sepsis", parameters(), deadlines=BRISK) is False
        assert await create("sepsis", parameters(), deadlines=BRISK) is True
        for changed in (
            {"parameters": parameters(clip=5.0)},
            {"deadlines": PATIENT},
            {"result_to_operator_only": True},
            {"opening": Opening(enough=2)},
            {"retention": Retention(results=7)},
            {"starters": ["platform"]},
        ):
            with pytest.raises(NameTaken, match="task sepsis exists with other content"):
                await create("sepsis", **{"parameters": parameters(), "deadlines": BRISK} | changed)


@pytest.mark.parametrize("name", ["Sepsis", "a b", "-a", "ünit", "../a"])
async def test_task_names_are_plain(tmp_path, name):
    async with hub(tmp_path, 3) as h:
        with pytest.raises(ParameterError, match="use 1 to 63 of a-z"):
            await h.operator.create_task(name, parameters())


async def test_tasks_that_this_roster_cannot_meet(tmp_path):
    async with hub(tmp_path, 3) as h:
        with pytest.raises(ParameterError, match="minimum_cohort is 4, the roster has 3 participants"):
            await h.operator.create_task("sepsis", parameters(minimum_cohort=4))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"value_bits": 54, "clients_max": 10_000}, "the ring has at most 64: lower value_bits or clients_max"),
        ({"minimum_cohort": 11}, "minimum_cohort is 11, allowed are 2 to 10"),
        ({"mode": "plain"}, "mode 'plain' is unknown"),
        ({"tensors": (Tensor("x", (1,)), Tensor("x", (2,)))}, "tensor names are not unique"),
        ({"tensors": (Tensor("x", (10**9,)), Tensor("y", (10**9,)))}, "2000000001 entries, at most 1000000000 fit"),
    ],
)
async def test_parameters_that_could_overflow_are_refused_by_the_server_too(tmp_path, changes, named):
    """An operator's SDK refuses them at once; these come from another program."""
    async with hub(tmp_path, 3) as h:
        bad = replace(parameters().to_message(), **changes)
        task = operator_messages.Task("sepsis", bad, BRISK, result_to_operator_only=False)
        with pytest.raises(ParameterError, match=named):
            await h.calls.unary("/sangam.v1.Operator/CreateTask", task, TaskCreated)


async def test_what_is_not_there_is_named(tmp_path):
    async with hub(tmp_path, 3) as h:
        with pytest.raises(NotFound, match="there is no task 'lungs' here; tasks: none yet"):
            await h.operator.start_round("lungs")
        await h.create(parameters())
        with pytest.raises(NotFound, match="task sepsis has no round 7"):
            async for _ in h.operator.watch("sepsis", 7):
                pass
        with pytest.raises(NotFound, match="no result of round 7"):
            await h.operator.fetch_result("sepsis", 7)


async def test_run_round_raises_why_a_round_failed(tmp_path):
    async with hub(tmp_path, 3) as h:
        await h.create(parameters(), replace(BRISK, advertise_keys_s=0.1))
        with pytest.raises(RoundAborted, match=r"round \d+: advertise keys: 0 clients, need 2"):
            await h.operator.run_round("sepsis")


async def test_events_tell_who_dropped_where_to_late_watchers_too(tmp_path):
    async with hub(tmp_path, 4) as h:
        await h.create(parameters())
        run = await h.run_round(offers(4), dies={3: "masked_input"})
        late = [event async for event in h.operator.watch("sepsis", run.number)]
    assert late == run.events
    times = [event.seconds for event in late]
    assert times == sorted(times)
    (dropped,) = (event for event in late if event.kind == "dropped")
    assert (dropped.client, dropped.step, dropped.detail) == ("site-0003", "masked_input", "its line is broken")
    asked = {event.step: event.clients for event in late if event.kind == "step"}
    assert asked == {
        "advertise_keys": 4,
        "share_keys": 4,
        "masked_input": 4,
        "consistency_check": 3,
        "unmasking": 3,
    }


async def test_the_base_model_is_what_the_sites_must_start_from(tmp_path):
    base = {"x": np.arange(4.0)}
    async with hub(tmp_path, 3) as h:
        await h.create(parameters())
        run = await h.run_round(offers(3), base=base)
        assert isinstance(run.operator, clients.RoundResult)
        assert run.operator.terms.model_hash == run.results[0].terms.model_hash
        other = asyncio.create_task(h.operator.run_round("sepsis", base={"x": np.arange(4)}))
        async with h.join(0) as session:
            with pytest.raises(ParameterError, match="starts from another model"):
                await session.contribute({"x": np.zeros(4)}, weight=1, base=base)
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)


def test_default_deadlines_allow_for_a_slow_line():
    """A gigabyte at 1 Mbit/s takes 8,000 s; a small update has two minutes; sites have an hour to come."""
    small, big = (default_deadlines(parameters(shape)) for shape in ((10,), (400_000_000,)))
    assert (small.advertise_keys_s, small.share_keys_s) == (3_600.0, 120.0)
    assert 120.0 < small.masked_input_s < 121.0
    assert big.masked_input_s == pytest.approx(120 + 1e9 / 125_000)
