"""What is there after a restart, and what becomes of a round whose time or whose bytes are over."""

import asyncio
import sqlite3
import sys
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress

import numpy as np
import pytest

import clients
from aggregator.errors import Gone, NameTaken, SangamError
from aggregator.protocol.parameters import Mode
from aggregator.storage.audit import AUDIT_FILE, verify
from aggregator.wire.operator_messages import Deadlines, Opening
from aggregator.wire.vocabulary import EventKind, RoundState, Step, SumState
from tests.consortium import TASK, Consortium
from tests.killing import killable
from tests.loopback import PATIENT, TOO_LONG_S, Hub, check_mean, configured, offers, operator, parameters
from tests.parties import parameters as homomorphic
from tests.service.test_homomorphic import everyone, staffed

N = 4
SHAPE = (40_000,)


async def killed_at(hub, step, killed):
    """Kill the server when this step begins, once, whatever round that is."""
    while not killed:
        with suppress(SangamError):
            async for one in hub.operator.rounds(TASK):
                async for event in hub.operator.watch(TASK, one.round):
                    if event.step == step and event.kind == EventKind.STEP and not killed:
                        killed.append(step)
                        hub.kill()
                        await hub.start()
        await asyncio.sleep(0)


@pytest.mark.parametrize("step", [Step.PUBLISH_KEY, Step.FREEZE, Step.AUDIT, Step.DECRYPT])
async def test_a_server_killed_while_it_waits_for_a_party(step, tmp_path):
    async with killable(tmp_path, N) as hub, staffed(hub):
        spec, offered, killed = homomorphic(SHAPE), offers(N, SHAPE), []
        await hub.create(spec, PATIENT)
        killer = asyncio.create_task(killed_at(hub, step, killed))
        run = await hub.run_round(offered, how=everyone())
        killer.cancel()
        await asyncio.gather(killer, return_exceptions=True)
        check_mean(run, offered, range(N), spec.ring_bits)


async def test_what_was_there_is_there_again_after_a_kill(tmp_path):
    async with killable(tmp_path, N) as hub:
        spec, offered = parameters(SHAPE, mode=Mode.LATTICE), offers(N, SHAPE)
        await hub.create(spec, PATIENT)
        await hub.operator.create_task("other", spec)
        await hub.operator.cancel_task("other")
        await hub.operator.create_task("gone", spec)
        await hub.operator.cancel_task("gone")
        await hub.operator.delete_task("gone")
        run = await hub.run_round(offered)
        before = await hub.operator.describe_task(TASK), [one async for one in hub.operator.rounds(TASK)]
        hub.kill()
        await hub.start()
        after = await hub.operator.describe_task(TASK), [one async for one in hub.operator.rounds(TASK)]
        assert after[0].task == before[0].task
        assert (after[0].summary.rounds, after[0].summary.last_round) == (1, run.number)
        assert after[1] == before[1]
        assert [event async for event in hub.operator.watch(TASK, run.number)] == run.events
        result = await hub.operator.fetch_result(TASK, run.number)
        assert np.array_equal(result.words, run.operator.words)
        assert result.participants == run.operator.participants
        assert [task.state async for task in hub.operator.tasks()] == ["cancelled", "open"]
        with pytest.raises(NameTaken, match="which was deleted"):
            await hub.operator.create_task("gone", spec)
        async with hub.join(0) as session:
            assert np.array_equal((await session.fetch_result(run.number)).words, run.operator.words)
        await hub.operator.delete_result(TASK, run.number)
        hub.kill()
        await hub.start()
        with pytest.raises(Gone, match="it was deleted"):
            await hub.operator.fetch_result(TASK, run.number)
        assert (await hub.operator.describe_round(TASK, run.number)).result == SumState.DELETED


async def test_the_next_round_has_a_new_number_and_a_key_starts_one_round(tmp_path):
    async with killable(tmp_path, N) as hub:
        await hub.create(parameters(), PATIENT)
        number = await hub.operator.start_round(TASK, key="once")
        hub.kill()
        await hub.start()
        assert await hub.operator.start_round(TASK, key="once") == number
        await hub.operator.abort_round(TASK, number, "enough")
        hub.kill()
        await hub.start()
        assert (await hub.operator.describe_round(TASK, number)).reason.endswith("aborted the round: enough")
        assert await hub.operator.start_round(TASK, key="twice") > number


async def test_a_site_that_was_away_when_the_round_closed_hears_of_it(tmp_path):
    async with killable(tmp_path, N) as hub:
        await hub.create(parameters(), PATIENT)
        loop = asyncio.get_running_loop()

        def kill(step):
            if step == Step.UNMASKING:
                loop.call_soon_threadsafe(hub.restart)

        run = await hub.run_round(offers(N), calls={3: kill})
        assert all(isinstance(run.results[client], clients.RoundResult) for client in range(N))


async def test_a_round_whose_deadline_passed_meanwhile_ends_with_a_reason(tmp_path):
    async with killable(tmp_path, N) as hub:
        await hub.create(parameters(), Deadlines(0.4, 0.4, 0.4, 0.4, 0.4, 0.4))
        number = await hub.operator.start_round(TASK)
        hub.kill()
        await asyncio.sleep(0.5)  # the deadline is a time of the clock
        await hub.start()
        *_, end = [event async for event in hub.operator.watch(TASK, number)]
        assert (end.kind, end.detail) == (EventKind.FAILED, "advertise keys: 0 clients, need 2")


async def test_a_round_that_gathered_gathers_on(tmp_path):
    async with killable(tmp_path, N) as hub:
        spec, offered = parameters(), offers(N)
        await hub.create(spec, PATIENT, opening=Opening(enough=N, gather_s=60.0))
        number = await hub.operator.start_round(TASK)
        hub.kill()
        await hub.start()
        assert (await hub.operator.describe_round(TASK, number)).state == RoundState.GATHERING

        async def take_part(client):
            async with hub.join(client) as session:
                return await session.contribute(offered[client][0], weight=offered[client][1])

        results = await asyncio.gather(*map(take_part, range(N)))
        assert {result.round for result in results} == {number}


async def test_an_upload_that_the_disk_has_damaged_is_asked_for_again(tmp_path):
    """The server is killed when three inputs lie in its spool, and one of these is changed before it starts again."""
    async with killable(tmp_path, N) as hub:
        spec, offered = parameters(SHAPE, mode=Mode.LATTICE), offers(N, SHAPE)
        await hub.create(spec, PATIENT)
        loop, spool = asyncio.get_running_loop(), tmp_path / "state" / "spool"

        async def spoil():
            (running,) = [one async for one in hub.operator.rounds(TASK)]
            answered = 0
            async for event in hub.operator.watch(TASK, running.round):
                answered += (event.kind, event.step) == (EventKind.ANSWERED, Step.MASKED_INPUT)
                if answered == N - 1:
                    break
            hub.kill()
            path = next(spool.rglob("upload-*"))
            whole = path.read_bytes()
            path.write_bytes(whole[:50_000] + b"?" + whole[50_001:])
            await hub.start()

        def wait(step):  # in the thread in which the last client works on its vector
            if step == Step.MASKED_INPUT:
                asyncio.run_coroutine_threadsafe(spoil(), loop).result(15.0)

        run = await hub.run_round(offered, calls={3: wait})
        check_mean(run, offered, range(N), spec.ring_bits)
        assert "is damaged" in (tmp_path / "hub" / "log.txt").read_text()


async def test_sigterm_ends_the_command_cleanly_and_the_round_goes_on_at_the_next_start(tmp_path):
    home = configured(tmp_path, Consortium.of(N)).identity
    options = ["--identity", str(home), "--roster", str(tmp_path / "roster.json"), "--reload-s", "0"]

    @asynccontextmanager
    async def serving(port):
        command = [sys.executable, "-m", "aggregator", "serve", *options, "--listen", f"localhost:{port}"]
        server = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        try:
            while b"listening" not in (line := await server.stderr.readline()):
                assert line, "the server ended"
            yield server, int(line.rpartition(b":")[2])
        finally:
            with suppress(ProcessLookupError):
                server.kill()
            await server.wait()

    async with asyncio.timeout(TOO_LONG_S), AsyncExitStack() as stack:
        server, port = await stack.enter_async_context(serving(0))
        leader = await stack.enter_async_context(clients.operate(f"localhost:{port}", operator()))
        hub = Hub(port, Consortium.of(N), tmp_path, leader, None, None)
        spec, offered = parameters(SHAPE, mode=Mode.LATTICE), offers(N, SHAPE)
        await hub.create(spec, PATIENT)
        loop, ended = asyncio.get_running_loop(), []

        async def stop():
            server.terminate()
            ended.append((await server.stderr.read(), await server.wait()))
            await stack.enter_async_context(serving(port))

        def terminate(step):
            if step == Step.CONSISTENCY_CHECK and not ended:
                ended.append(loop.call_soon_threadsafe(lambda: ended.append(loop.create_task(stop()))))

        run = await hub.run_round(offered, calls={0: terminate})
        check_mean(run, offered, range(N), spec.ring_bits)
        assert [code for words, code in map(tuple, ended[2:]) if words.endswith(b"stopping\n")] == [0]
        assert EventKind.RESUMED in [event.kind for event in run.events]


async def test_the_audit_log_tells_of_the_whole_round_once_whatever_was_killed(tmp_path):
    async with killable(tmp_path, N) as hub:
        spec, offered, killed = parameters(), offers(N), []
        await hub.create(spec, PATIENT)
        loop = asyncio.get_running_loop()

        def kill(step):
            killed.append(step)
            loop.call_soon_threadsafe(hub.restart)

        run = await hub.run_round(offered, calls={0: kill})
        assert len(killed) >= len(set(killed)) == 5
        check_mean(run, offered, range(N), spec.ring_bits)
    lines = (tmp_path / "state" / AUDIT_FILE).read_text().splitlines()
    assert verify(lines).seq == len(lines) - 1
    whats = [line.split('"what":"')[1].split('"')[0] for line in lines]
    assert whats == [
        "task created",
        "round started",
        "round opened",
        *["step ended"] * 4,
        "result",
        "round closed",
    ]
    assert '"answered":["site-0000","site-0001","site-0002","site-0003"]' in lines[5]


async def test_a_round_of_which_something_is_lost_fails_by_name_and_its_sites_hear_it(tmp_path):
    async with killable(tmp_path, N) as hub:
        await hub.create(parameters(), PATIENT)
        loop, records = asyncio.get_running_loop(), tmp_path / "state" / "records.sqlite"

        async def lose():
            hub.kill()
            with closing(sqlite3.connect(records)) as database:
                database.execute("DELETE FROM answers WHERE step = 'advertise_keys' AND member = 2")
                database.commit()
            await hub.start()

        def kill(step):
            if step == Step.SHARE_KEYS:
                loop.call_soon_threadsafe(lambda: setattr(hub, "losing", loop.create_task(lose())))

        run = await hub.run_round(offers(N), calls={0: kill})
        for end in (run.operator, *run.results.values()):
            assert isinstance(end, SangamError), end
        assert run.events[-1].detail == "advertise_keys: of 4 answers 1 are lost"
        assert "advertise_keys: of 4 answers 1 are lost" in str(run.results[1])
