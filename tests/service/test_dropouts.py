import asyncio
import re
from dataclasses import replace

import pytest

from aggregator.errors import RoundAborted
from aggregator.wire.vocabulary import MASKED_STEPS, Step
from tests.loopback import BRISK, PATIENT, Vanished, Watcher, check_mean, hub, offers, parameters

STEPS = list(MASKED_STEPS)
IN_THE_SUM = {Step.CONSISTENCY_CHECK, Step.UNMASKING}  # whoever dies here has given its input


@pytest.mark.parametrize("step", STEPS)
async def test_a_round_survives_a_client_that_dies_in_a_step(tmp_path, step):
    offered, spec = offers(4), parameters()
    async with hub(tmp_path, 4) as h:
        await h.create(spec)
        run = await h.run_round(offered, dies={3: step})
    survivors = (0, 1, 2, 3) if step in IN_THE_SUM else (0, 1, 2)
    assert isinstance(run.results.pop(3), Vanished)
    run.results[3] = run.operator  # the dead got nothing; the rest is checked for all survivors
    check_mean(run, offered, survivors, spec.ring_bits)
    assert run.told("dropped") == [("site-0003", step)]


async def test_a_round_survives_dropouts_in_every_step_at_once(tmp_path):
    """Ten sites, t = 7: of those who give their keys, three may go."""
    offered, spec = offers(10), parameters()
    dies = {5: Step.ADVERTISE_KEYS, 6: Step.MASKED_INPUT, 7: Step.CONSISTENCY_CHECK}
    async with hub(tmp_path, 10) as h:
        await h.create(spec)
        run = await h.run_round(offered, dies=dies)
        for client in dies:
            assert isinstance(run.results.pop(client), Vanished)
        run.results[7] = run.operator
        check_mean(run, offered, (0, 1, 2, 3, 4, 7, 8, 9), spec.ring_bits)
    assert run.told("dropped") == [(f"site-{client:04}", step) for client, step in dies.items()]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Step.ADVERTISE_KEYS, r"advertise keys: [0-2] clients, need 3"),
        (Step.SHARE_KEYS, r"share keys: [0-2] clients, need 3"),
        (Step.MASKED_INPUT, r"masked input: [0-2] clients, need 3"),
        (Step.CONSISTENCY_CHECK, r"consistency check: [0-2] signatures, need 3"),
        (Step.UNMASKING, r"unmasking: [0-2] shares for client 0, need 3"),
    ],
)
async def test_a_round_aborts_by_name_as_soon_as_too_few_are_left_in_a_step(tmp_path, step, reason):
    """Two of four withdraw; t = 3. Nobody else can come, so nobody waits for the deadline."""
    async with hub(tmp_path, 4) as h:
        await h.create(parameters(minimum_cohort=3), PATIENT)
        run = await h.run_round(offers(4), refuses={2: step, 3: step})
    for client in (0, 1):
        assert isinstance(run.results[client], RoundAborted), run.results[client]
        assert re.fullmatch(f"round {run.number}: {reason}", str(run.results[client]))
    last = run.events[-1]
    assert (last.kind, last.step) == ("failed", step)
    assert re.fullmatch(reason, last.detail)
    assert sorted(run.told("withdrew")) == [("site-0002", step), ("site-0003", step)]


async def test_a_failed_round_is_followed_by_a_good_one(tmp_path):
    offered, spec = offers(3), parameters(minimum_cohort=3)
    async with hub(tmp_path, 3) as h:
        await h.create(spec, replace(BRISK, share_keys_s=1.0))
        failed = await h.run_round(offered, dies={2: Step.SHARE_KEYS})  # it might come back: the deadline decides
        assert (failed.events[-1].kind, failed.events[-1].step) == ("failed", Step.SHARE_KEYS)
        assert failed.told("dropped")[-1] == ("site-0002", Step.SHARE_KEYS)
        run = await h.run_round(offered)
        assert run.number == failed.number + 1
        check_mean(run, offered, (0, 1, 2), spec.ring_bits)


async def test_a_site_that_restarts_in_a_round_says_that_it_forgot_it(tmp_path):
    """Its secrets are gone with its process: nobody waits for the line to come back, and then for its answer."""
    offered, spec = offers(4), parameters()
    async with hub(tmp_path, 4) as h:
        await h.create(spec, PATIENT)
        others = asyncio.create_task(h.run_round({client: offered[client] for client in range(3)}))
        async with h.join(3) as session:
            with pytest.raises(Vanished):
                await session.contribute(offered[3][0], weight=1, observer=Watcher(Step.SHARE_KEYS))
        async with h.join(3):
            run = await others
    check_mean(run, offered, range(3), spec.ring_bits)
    (withdrawn,) = (event for event in run.events if event.kind == "withdrew")
    assert (withdrawn.client, withdrawn.step) == ("site-0003", Step.SHARE_KEYS)
