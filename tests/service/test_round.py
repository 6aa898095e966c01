import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import numpy as np
import pytest

from aggregator.errors import NotAdmitted, NotFound, OutOfTurn
from aggregator.protocol.parameters import Mode
from aggregator.wire.vocabulary import MASKED_STEPS, Step
from tests.loopback import BRISK, PATIENT, check_mean, hub, offers, parameters, weighted_mean

LATTICE = [(3, {"mode": Mode.LATTICE, **more}) for more in ({}, {"rotate": True}, {"value_bits": 40})]
NAMES = [f"site-{client:04}" for client in range(4)]


@pytest.mark.parametrize(
    ("n", "changes"),
    [
        (2, {}),
        (5, {}),
        (3, {"rotate": True}),
        (3, {"value_bits": 54, "clients_max": 1_000}),
        (3, {"value_bits": 2}),
        *LATTICE,
    ],
)
async def test_everybody_gets_the_weighted_mean(tmp_path, n, changes):
    spec, offered = parameters((3, 5), **changes), offers(n, (3, 5))
    async with hub(tmp_path, n) as h:
        await h.create(spec)
        run = await h.run_round(offered)
    check_mean(run, offered, range(n), spec.ring_bits)
    assert [(event.kind, event.step) for event in run.events if event.kind != "answered"] == [
        *(("step", step) for step in MASKED_STEPS),
        ("closed", Step.UNMASKING),
    ]


def test_the_widest_ring_is_among_them():
    assert parameters(value_bits=54, clients_max=1_000).ring_bits == 64


@pytest.mark.parametrize("staging_bytes", [256 << 20, 0])
@pytest.mark.parametrize(("mode", "chunks"), [(Mode.PAIRWISE, 4), (Mode.LATTICE, 6)])
async def test_an_update_of_several_chunks(tmp_path, staging_bytes, mode, chunks):
    """1.5 million entries, 3.6 or 4.3 MiB for each site; without staging memory, all of it goes through a file."""
    shape = (1_500_000,)
    spec, offered = parameters(shape, mode=mode), offers(3, shape)
    assert spec.upload_plan.chunks == chunks
    async with hub(tmp_path, 3, staging_bytes=staging_bytes, staging_directory=tmp_path) as h:
        await h.create(spec)
        run = await h.run_round(offered)
    words = sum(run.watchers[c].encoded.astype(np.uint64) for c in offered) % 2**spec.ring_bits
    assert np.array_equal(run.operator.words, words)
    assert np.array_equal(run.results[2].words, words)
    assert not [file for file in tmp_path.iterdir() if file.name.startswith("tmp")]


async def test_many_rounds_over_one_session_each_from_the_last_mean(tmp_path):
    """A little training: every site steps half-way to its own target; the mean goes to the targets' weighted mean."""
    targets, spec = offers(3), parameters()
    async with hub(tmp_path, 3) as h:
        await h.create(spec)

        async def site(client, rounds=4):
            target, weight = targets[client]
            model, numbers = {"x": np.zeros(4)}, []
            async with h.join(client) as session:
                await joined.wait()
                for _ in range(rounds):
                    step = {"x": (target["x"] - model["x"]) / 2}
                    result = await session.contribute(step, weight=weight, base=model)
                    model = {"x": model["x"] + result.mean["x"]}
                    numbers.append(result.round)
            return model, numbers

        async def lead(rounds=4):
            model = {"x": np.zeros(4)}
            await joined.wait()
            for _ in range(rounds):
                result = await h.operator.run_round("sepsis", base=model)
                model = {"x": model["x"] + result.mean["x"]}
            return model, [result.round + i for i in (-3, -2, -1, 0)]

        joined = asyncio.Barrier(4)
        ends = await asyncio.gather(lead(), *map(site, range(3)))
    for model, numbers in ends:
        assert numbers == ends[0][1]
        assert np.array_equal(model["x"], ends[0][0]["x"])
    expected = weighted_mean(targets, range(3)) * (1 - 2**-4)
    assert np.allclose(ends[0][0]["x"], expected, atol=0.02)


async def test_a_result_for_the_operator_only(tmp_path):
    offered = offers(3)
    async with hub(tmp_path, 3) as h:
        await h.create(parameters(), result_to_operator_only=True)
        run = await h.run_round(offered)
        assert run.results == {0: None, 1: None, 2: None}
        assert run.operator.words.tolist() == run.plain_sum(range(3), parameters().ring_bits)
        async with h.join(0) as session:
            with pytest.raises(NotAdmitted, match="the results of task sepsis go to its operator only"):
                await session.fetch_result()


async def test_results_are_fetched_by_number_and_the_last_by_default(tmp_path):
    offered = offers(3)
    async with hub(tmp_path, 3) as h:
        await h.create(parameters())
        with pytest.raises(NotFound, match="task sepsis has no result of round 0: there is none yet"):
            await h.operator.fetch_result("sepsis")
        first = await h.run_round(offered)
        model = first.operator.mean
        second = await h.run_round(offered, base=model)
        async with h.join(0) as session:
            for number, run in ((first.number, first), (second.number, second), (0, second)):
                fetched = await session.fetch_result(number)
                assert np.array_equal(fetched.words, run.operator.words)
                assert fetched.clipped_entries is None
            with pytest.raises(NotFound, match=f"no result of round {second.number + 1}"):
                await session.fetch_result(second.number + 1)


async def test_clipped_entries_are_counted_for_their_owner_only(tmp_path):
    offered = offers(3)
    offered[1] = ({"x": np.array([1e6, -1e6, 0.0, 1.0])}, 100)
    async with hub(tmp_path, 3) as h:
        await h.create(parameters())
        run = await h.run_round(offered)
    assert [run.results[c].clipped_entries for c in range(3)] == [0, 2, 0]
    assert run.operator.clipped_entries is None


async def test_a_round_is_not_started_while_one_runs(tmp_path):
    async with hub(tmp_path, 3) as h:
        await h.create(parameters(), PATIENT)
        number = await h.operator.start_round("sepsis")
        with pytest.raises(OutOfTurn, match=f"task sepsis: round {number} is still running"):
            await h.operator.start_round("sepsis")


async def test_a_site_beyond_clients_max_waits_for_the_next_round_and_nobody_waits_for_it(tmp_path):
    spec, offered = parameters(clients_max=3), offers(4)
    async with AsyncExitStack() as stack:
        h = await stack.enter_async_context(hub(tmp_path, 4))
        await h.create(spec, PATIENT)
        sessions = [await stack.enter_async_context(h.join(client)) for client in offered]

        def contribute(client, again=""):
            update, weight = offered[client]
            return asyncio.create_task(sessions[client].contribute(update, weight=weight, again=again))

        parts = [contribute(client) for client in offered]
        first = await h.operator.run_round("sepsis")
        await asyncio.gather(*(part for part, name in zip(parts, NAMES, strict=True) if name in first.participants))
        (late,) = [client for client in offered if not parts[client].done()]
        company = [client for client in offered if client != late][:2]
        others = [contribute(client, again="to keep the late one company") for client in company]
        second = await h.operator.run_round("sepsis")
        assert (await parts[late]).round == second.round == first.round + 1
        await asyncio.gather(*others)
    assert NAMES[late] not in first.participants
    assert NAMES[late] in second.participants


async def test_a_silent_client_costs_the_step_its_deadline_and_no_more(tmp_path):
    """It is connected, and says nothing."""
    spec, offered = parameters(), offers(4)
    async with hub(tmp_path, 4) as h:
        await h.create(spec, replace(BRISK, advertise_keys_s=2.0))
        async with h.join(3):
            run = await h.run_round({c: offered[c] for c in range(3)})
    check_mean(run, offered, range(3), spec.ring_bits)
    dropped = [event for event in run.events if event.kind == "dropped"]
    assert [(e.client, e.step, e.detail) for e in dropped] == [("site-0003", Step.ADVERTISE_KEYS, "no answer in time")]


async def test_two_tasks_at_once_do_not_mix(tmp_path):
    offered = offers(3), offers(3, seed=1)
    async with hub(tmp_path, 3) as h:
        for task in ("a", "b"):
            await h.create(parameters(), task=task)
        how = [{c: {"journal": tmp_path / f"{task}-{c}"} for c in range(3)} for task in "ab"]
        runs = await asyncio.gather(*(h.run_round(offered[i], task="ab"[i], how=how[i]) for i in range(2)))
    for run, of in zip(runs, offered, strict=True):
        check_mean(run, of, range(3), parameters().ring_bits)


async def test_a_hundred_clients_on_the_complete_graph(tmp_path):
    """As many as the network takes in this version; 67 = floor(2·100/3) + 1 must stay, two vanish."""
    n = 100
    offered, spec = offers(n), parameters(clients_max=n, weight_max=200)
    async with hub(tmp_path, n) as h:
        await h.create(spec)
        run = await h.run_round(offered, dies={7: "share_keys", 50: "masked_input"})
    check_mean(run, offered, [c for c in range(n) if c not in (7, 50)], spec.ring_bits)
