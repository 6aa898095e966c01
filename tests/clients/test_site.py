"""One site in several tasks at once: one journal, one connection."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

import clients
from aggregator.crypto.certificates import Role
from aggregator.errors import NotFound, ParameterError, StorageError
from aggregator.protocol.parameters import Mode
from tests.consortium import ANY_COHORT
from tests.loopback import BRISK, Run, Watcher, check_mean, hub, issued, offers, parameters

N = 5
ROUNDS = 3


@asynccontextmanager
async def opened(h, client):
    who, journal = h.consortium.identities[client], h.journal(client)
    async with clients.open_site(h.address, who, journal=journal, safeguards=ANY_COHORT) as site:
        yield site


async def play(leader, sessions, task, offered, base):
    """One round of one task, with the watching of `Hub.run_round`, over sessions that are open."""
    run = Run(watchers={client: Watcher() for client in offered})

    async def lead():
        run.number = await leader.start_round(task, base=base)
        async for event in leader.watch(task, run.number):
            run.events.append(event)
        return await leader.fetch_result(task, run.number)

    async def take_part(client):
        update, weight = offered[client]
        return await sessions[client].contribute(update, weight=weight, base=base, observer=run.watchers[client])

    ends = await asyncio.gather(lead(), *(take_part(client) for client in offered))
    run.operator, run.results = ends[0], dict(zip(offered, ends[1:], strict=True))
    return run


async def test_two_operators_two_tasks_three_rounds_at_once_are_exact(tmp_path):
    """Every site is in both tasks, over one connection and with one journal; each sum is that of its own task."""
    specs = {"pairs": parameters(), "ideals": parameters((700,), mode=Mode.LATTICE)}
    leaders = {task: issued(f"operator-{task}", Role.OPERATOR) for task in specs}
    async with hub(tmp_path, N) as h, AsyncExitStack() as stack:
        sites = [await stack.enter_async_context(opened(h, client)) for client in range(N)]
        sums = {}

        async def rounds(task, spec):
            leader = await stack.enter_async_context(clients.operate(h.address, leaders[task]))
            await leader.create_task(task, spec, deadlines=BRISK)
            sessions = [await stack.enter_async_context(site.join(task)) for site in sites]
            base = None
            for number in range(ROUNDS):
                offered = offers(N, spec.tensors[0].shape, seed=len(task) + number)
                run = await play(leader, sessions, task, offered, base)
                check_mean(run, offered, range(N), spec.ring_bits)
                base = run.operator.mean
                sums[task, number] = run.operator.words

        await asyncio.gather(*(rounds(task, spec) for task, spec in specs.items()))
        assert len(sums) == 2 * ROUNDS


async def test_a_task_is_joined_once_at_a_time(tmp_path):
    """A second session of one task would take the line from the first, and withdraw from its rounds."""
    async with hub(tmp_path, N) as h, opened(h, 0) as site:
        await h.create(parameters())
        async with site.join("sepsis") as session:
            for task in ("sepsis", ""):
                with pytest.raises(ParameterError, match="in sepsis already: name another task"):
                    async with site.join(task):
                        pytest.fail("joined twice")
            with pytest.raises(NotFound, match="there is no task 'lungs'"):
                async with site.join("lungs"):
                    pass
            assert session.task == "sepsis"
        async with site.join() as session:
            assert session.task == "sepsis"
            with pytest.raises(ParameterError, match="in sepsis already"):
                async with site.join("sepsis"):
                    pytest.fail("joined twice")
        async with site.join("sepsis"):
            pass


async def test_a_site_is_open_once(tmp_path):
    async with hub(tmp_path, N) as h, opened(h, 0):
        with pytest.raises(StorageError, match="in use by another process"):
            async with opened(h, 0):
                pytest.fail("two journals")
