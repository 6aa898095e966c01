"""The server is killed, and started again over the same directory; clients and operator go on."""

import asyncio

import pytest

from aggregator.protocol.parameters import Mode
from aggregator.wire.vocabulary import MASKED_STEPS
from tests.consortium import TASK
from tests.killing import killable
from tests.loopback import PATIENT, check_mean, offers, parameters
from tests.parties import parameters as homomorphic
from tests.service.test_homomorphic import everyone, staffed

N = 4


@pytest.mark.parametrize("mode", [Mode.PAIRWISE, Mode.LATTICE])
async def test_a_server_killed_in_every_step_ends_its_round_with_the_exact_sum(mode, tmp_path):
    async with killable(tmp_path, N) as hub:
        spec = parameters((40_000,), mode=mode)
        await hub.create(spec, PATIENT)
        offered = offers(N, (40_000,))
        killed, loop = [], asyncio.get_running_loop()

        def kill(step):  # called in a thread where the client works on its vector
            if step not in killed:
                killed.append(step)
                loop.call_soon_threadsafe(hub.restart)

        run = await hub.run_round(offered, calls={0: kill})
        assert killed == list(MASKED_STEPS)
        check_mean(run, offered, range(N), spec.ring_bits)


async def test_a_server_killed_in_every_homomorphic_step_ends_its_round_with_the_exact_sum(tmp_path):
    async with killable(tmp_path, N) as hub, staffed(hub):
        spec = homomorphic((20_000,))
        await hub.create(spec, PATIENT)
        offered = offers(N, (20_000,))
        killed, loop = [], asyncio.get_running_loop()

        def kill(step):
            if step not in killed:
                killed.append(step)
                loop.call_soon_threadsafe(hub.restart)

        run = await hub.run_round(offered, calls={0: kill}, how=everyone())
        assert killed == ["commit_input", "upload"]
        check_mean(run, offered, range(N), spec.ring_bits)


async def test_a_server_starts_again_behind_a_homomorphic_round_that_has_ended(tmp_path):
    spec = homomorphic((4,))
    async with killable(tmp_path, N) as hub, staffed(hub):
        await hub.create(spec, PATIENT)
        for seed in range(2):
            offered = offers(N, seed=seed)
            run = await hub.run_round(offered, how=everyone(), base={"round": [float(seed)]})
            check_mean(run, offered, range(N), spec.ring_bits)
            hub.kill()
            await hub.start()
            result = await hub.operator.fetch_result(TASK, run.number)
            assert result.words.tolist() == run.operator.words.tolist()
