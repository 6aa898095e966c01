"""Tasks as operators see them: whose they are, how they end, and that a refusal leaves nothing behind."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

import clients
from aggregator.crypto.certificates import Role
from aggregator.errors import (
    Cancelled,
    Expired,
    Gone,
    NameTaken,
    NotAdmitted,
    NotFound,
    OutOfTurn,
    Overloaded,
    ParameterError,
    RoundAborted,
)
from aggregator.service import tasks
from aggregator.wire.operator_messages import Opening, Retention, RoundRequest, RoundStarted
from tests.consortium import Consortium
from tests.loopback import BRISK, PATIENT, check_mean, hub, issued, offers, parameters

SHAPE = parameters()
SHAPE_OF_12 = parameters(clients_max=12)
START = "/sangam.v1.Operator/StartRound"


@asynccontextmanager
async def another(h, name="registry"):
    """A second operator's session."""
    async with clients.operate(h.address, issued(name, Role.OPERATOR)) as session:
        yield session


async def listed(items):
    return [item async for item in items]


def revoked_serial(path, client):
    path.write_text(f"{Consortium.of(3).identities[client].certificate.serial}\n")
    return path


async def state(*operators):
    """All that these operators see of the server, but for what time changes."""
    seen = []
    for operator in operators:
        for task in await listed(operator.tasks()):
            rounds = [replace(summary, seconds=0.0) for summary in await listed(operator.rounds(task.name))]
            seen.append((await operator.describe_task(task.name), rounds))
        seen.append(await listed(operator.sites()))
    return seen


async def test_a_task_is_described_as_it_was_created_and_as_it_stands(tmp_path):
    opening, retention = Opening(enough=2, gather_s=9.0), Retention(results=7, age_s=60.0)
    async with hub(tmp_path, 3) as h:
        await h.create(SHAPE, opening=opening, retention=retention, starters=["zeta", "registry", "zeta"])
        described = await h.operator.describe_task("sepsis")
        assert described.task.parameters == SHAPE.to_message()
        assert (described.task.opening, described.task.retention, described.task.deadlines) == (
            opening,
            retention,
            BRISK,
        )
        assert described.task.starters == ("registry", "zeta")
        summary = described.summary
        assert (summary.name, summary.owner, summary.state, summary.mode) == ("sepsis", "operator", "open", "pairwise")
        assert (summary.rounds, summary.running_round, summary.last_round, summary.connected) == (0, 0, 0, 0)
        assert summary.entries == SHAPE.entries
        assert summary.created_s > 1.7e9
        run = await h.run_round(offers(3))
        async with h.join(0):
            summary = (await h.operator.describe_task("sepsis")).summary
        assert (summary.rounds, summary.last_round, summary.connected) == (1, run.number, 1)
        assert [task async for task in h.operator.tasks()] == [replace(summary, connected=0)]


def test_the_last_page_is_known_to_be_the_last():
    assert tasks.page_by_name("abcd", str, 2, "") == ("ab", "b")
    assert tasks.page_by_name("abcd", str, 2, "b") == ("cd", "")
    assert tasks.page_by_name("abcd", str, 2, "bb") == ("cd", "")
    assert tasks.page_by_name("", str, 2, "") == ("", "")


async def test_pages_of_tasks_and_sites_walk_all_of_them_once(tmp_path):
    names = [f"task-{i}" for i in (3, 1, 4, 0, 2)]
    async with hub(tmp_path, 5) as h, another(h) as other:
        for name in names:
            await h.create(SHAPE, task=name)
        await other.create_task("task-2a", SHAPE)
        for size in (1, 2, 5, 1_000):
            assert [task.name async for task in h.operator.tasks(page_size=size)] == sorted(names)
            assert [site.name async for site in h.operator.sites(page_size=size)] == [f"site-000{c}" for c in range(5)]
        assert [task.name async for task in other.tasks()] == ["task-2a"]
        with pytest.raises(clients.MessageError, match="size: 1001 is outside 1 to 1000"):
            await listed(h.operator.tasks(page_size=1_001))


async def test_sites_and_who_of_them_is_connected_to_the_callers_tasks(tmp_path):
    revoked = tmp_path / "revoked"
    async with hub(tmp_path, 3, revoked=revoked_serial(revoked, 2)) as h, another(h) as other:
        await h.create(SHAPE, task="a")
        await h.create(SHAPE, task="b")
        await other.create_task("c", SHAPE)
        async with h.join(0, task="a"), h.join(1, task="c"):
            mine = await listed(h.operator.sites())
            assert [(site.connected, site.revoked) for site in mine] == [(1, False), (0, False), (0, True)]
            assert [site.connected for site in await listed(h.operator.sites("b"))] == [0, 0, 0]
            assert [site.connected for site in await listed(other.sites("c"))] == [0, 1, 0]
            with pytest.raises(NotAdmitted, match="task c belongs to operator registry"):
                await listed(h.operator.sites("c"))
    certificate = h.consortium.identities[0].certificate
    assert int(mine[0].serial, 16) == certificate.serial
    assert mine[0].expires_s == certificate.not_after.timestamp()


async def test_a_starter_uses_a_task_and_its_owner_alone_ends_it(tmp_path):
    offered = offers(3)
    async with hub(tmp_path, 3) as h, another(h) as starter, another(h, "stranger") as stranger:
        await h.create(SHAPE, starters=["registry"])
        run = await h.run_round(offered)
        assert [task.name for task in await listed(starter.tasks())] == ["sepsis"]
        assert (await starter.fetch_result("sepsis")).words.tolist() == run.operator.words.tolist()
        number = await starter.start_round("sepsis")
        assert (await starter.abort_round("sepsis", number)).reason == "operator registry aborted the round"
        assert [event.kind for event in await listed(starter.watch("sepsis", number))] == ["step", "failed"]
        await h.operator.cancel_task("sepsis")
        for end in (starter.cancel_task, starter.delete_task):
            with pytest.raises(NotAdmitted, match="belongs to operator operator, who alone may cancel and delete it"):
                await end("sepsis")
        assert await listed(stranger.tasks()) == []


async def test_only_the_creators_whom_the_server_names_create_tasks(tmp_path):
    async with hub(tmp_path, 3, task_creators=("registry",)) as h, another(h) as registry:
        with pytest.raises(NotAdmitted, match="operator operator may not create tasks on this server"):
            await h.create(SHAPE)
        assert await registry.create_task("sepsis", SHAPE, starters=["operator"]) is False
        assert (await h.operator.start_round("sepsis")) > 0


async def test_there_are_so_many_tasks_and_a_deleted_one_makes_room(tmp_path):
    async with hub(tmp_path, 3, tasks_max=2) as h:
        await h.create(SHAPE, task="a")
        await h.create(SHAPE, task="b")
        with pytest.raises(Overloaded, match="at most 2 tasks of one operator: cancel and delete some"):
            await h.create(SHAPE, task="c")
        await h.operator.cancel_task("a")
        await h.operator.delete_task("a")
        await h.create(SHAPE, task="c")


async def test_a_cancelled_task_tells_its_sites_by_name_and_keeps_its_results(tmp_path):
    offered = offers(3)
    async with hub(tmp_path, 3) as h:
        await h.create(SHAPE, PATIENT)
        first = await h.run_round(offered)
        async with h.join(0) as session, h.join(1) as idle:
            update, weight = offered[0]
            work = asyncio.create_task(session.contribute(update, weight=weight, base=first.operator.mean))
            number = await h.operator.start_round("sepsis", base=first.operator.mean)
            async for event in h.operator.watch("sepsis", number):
                if event.kind == "answered":
                    break
            cancelled = await h.operator.cancel_task("sepsis")
            assert (cancelled.summary.state, cancelled.summary.running_round) == ("cancelled", 0)
            with pytest.raises(RoundAborted, match="operator operator cancelled task sepsis"):
                await work
            for told in (session, idle):
                with pytest.raises(Cancelled, match="operator operator cancelled task sepsis"):
                    await told.contribute(update, weight=weight, base=first.operator.mean)
            fetched = await idle.fetch_result()
            assert fetched.words.tolist() == first.operator.words.tolist()
        with pytest.raises(Cancelled, match="task sepsis was cancelled by its operator"):
            async with h.join(2):
                pass
        assert (await h.operator.cancel_task("sepsis")).summary == (await h.operator.describe_task("sepsis")).summary
        assert (await h.operator.fetch_result("sepsis")).round == first.number
        assert [(s.state, s.result) for s in await listed(h.operator.rounds("sepsis"))] == [
            ("failed", "none"),
            ("closed", "kept"),
        ]


async def test_a_deleted_task_is_gone_and_its_name_is_not_given_again(tmp_path):
    async with hub(tmp_path, 3) as h, another(h) as other:
        await h.create(SHAPE)
        await h.run_round(offers(3))
        with pytest.raises(OutOfTurn, match="task sepsis is open: cancel it, then delete it"):
            await h.operator.delete_task("sepsis")
        await h.operator.cancel_task("sepsis")
        await h.operator.delete_task("sepsis")
        assert await listed(h.operator.tasks()) == []
        for ask in (h.operator.describe_task, h.operator.delete_task, h.operator.fetch_result, h.operator.start_round):
            with pytest.raises(Gone, match="task sepsis was deleted"):
                await ask("sepsis")
        with pytest.raises(Gone, match="task sepsis was deleted"):
            async with h.join(0):
                pass
        for operator in (h.operator, other):
            with pytest.raises(NameTaken, match="there was a task sepsis, which was deleted: sites have pinned"):
                await operator.create_task("sepsis", SHAPE)
        with pytest.raises(NotFound, match="no task 'stroke' here") as never:
            await h.operator.describe_task("stroke")
        assert type(never.value) is NotFound


async def test_names_of_deleted_tasks_are_remembered_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "DELETED_NAMES_KEPT", 2)
    async with hub(tmp_path, 3) as h:
        for name in ("a", "b", "c"):
            await h.create(SHAPE, task=name)
            await h.operator.cancel_task(name)
            await h.operator.delete_task(name)
        with pytest.raises(NotFound, match="there is no task 'a' here") as forgotten:
            await h.operator.describe_task("a")
        assert type(forgotten.value) is NotFound
        with pytest.raises(Gone):
            await h.operator.describe_task("b")
        await h.create(SHAPE, task="a")


async def test_a_refusal_has_a_name_and_changes_nothing(tmp_path):
    """The walk of what bad input gets, over the wire, with all that both operators see compared before and after."""
    offered = offers(3)
    async with hub(tmp_path, 3) as h, another(h) as other:
        me = h.operator
        await h.create(SHAPE, PATIENT)
        closed = await h.run_round(offered)
        await me.delete_result("sepsis", closed.number)
        await other.create_task("theirs", SHAPE, deadlines=PATIENT)
        theirs = await other.start_round("theirs", key="k")
        await h.create(SHAPE, task="over")
        await me.cancel_task("over")
        running = await me.start_round("sepsis", key="k")
        stale = RoundRequest("sepsis", bytes(32), "old", 1_000.0)

        async def watch(task, number):
            return await listed(me.watch(task, number))

        refusals = [
            (NameTaken, "exists with other content", me.create_task("sepsis", parameters(clip=5.0), deadlines=PATIENT)),
            (NameTaken, "belongs to operator operator: choose", other.create_task("sepsis", SHAPE, deadlines=PATIENT)),
            (ParameterError, "starter 'A B'", me.create_task("new", SHAPE, starters=["A B"])),
            (ParameterError, "sample is 1, minimum", me.create_task("new", SHAPE, opening=Opening(sample=1))),
            (ParameterError, "enough is 4, sample is 0", me.create_task("new", SHAPE, opening=Opening(enough=4))),
            (NotFound, "there is no task 'none' here; tasks: over, sepsis$", me.start_round("none")),
            (NotFound, "has no round 7", me.describe_round("sepsis", 7)),
            (NotFound, "has no round 7", watch("sepsis", 7)),
            (NotFound, "has no round 7", me.abort_round("sepsis", 7)),
            (NotFound, "the round has not ended", me.fetch_result("sepsis", running)),
            (NotFound, "the round has not ended", me.delete_result("sepsis", running)),
            (OutOfTurn, f"round {running} is still running", me.start_round("sepsis")),
            (OutOfTurn, f"round {running} is still running", me.start_round("sepsis", key="another")),
            (OutOfTurn, "has ended already, it closed", me.abort_round("sepsis", closed.number)),
            (OutOfTurn, "task sepsis is open", me.delete_task("sepsis")),
            (Cancelled, "task over was cancelled", me.start_round("over")),
            (NotAdmitted, "task theirs belongs to operator registry", me.describe_task("theirs")),
            (NotAdmitted, "task theirs belongs to operator registry", me.start_round("theirs", key="k")),
            (NotAdmitted, "task theirs belongs to operator registry", me.abort_round("theirs", theirs)),
            (NotAdmitted, "task theirs belongs to operator registry", me.cancel_task("theirs")),
            (NotAdmitted, "task theirs belongs to operator registry", me.delete_task("theirs")),
            (NotAdmitted, "task theirs belongs to operator registry", me.fetch_result("theirs")),
            (NotAdmitted, "task theirs belongs to operator registry", me.delete_result("theirs", theirs)),
            (NotAdmitted, "task theirs belongs to operator registry", watch("theirs", theirs)),
            (NotAdmitted, "task theirs belongs to operator registry", listed(me.rounds("theirs"))),
            (Gone, "any more: it was deleted", me.delete_result("sepsis", closed.number)),
            (Gone, "any more: it was deleted", me.fetch_result("sepsis", closed.number)),
            (Gone, "any more: it was deleted", me.fetch_result("sepsis")),
            (Expired, "the idempotency key expired", h.calls.unary(START, stale, RoundStarted)),
            (ParameterError, "kept for a day at most", me.start_round("sepsis", key="far", key_expires_in_s=1e6)),
            (ParameterError, "on another model", me.start_round("sepsis", key="k", base=offered[0][0])),
        ]
        before = await state(me, other)
        for kind, named, call in refusals:
            with pytest.raises(kind, match=named) as caught:
                await call
            assert type(caught.value) is kind
            assert "\n" not in str(caught.value)
            assert await state(me, other) == before, named
        assert await me.start_round("sepsis", key="k") == running
        assert (await listed(me.tasks()))[-1].running_round == running


async def test_two_platforms_two_tasks_three_rounds_each_at_once(tmp_path):
    """Twelve sites, six for each task; every sum is exact, and no platform sees the other's."""
    halves = {"sepsis": range(6), "stroke": range(6, 12)}
    offered = {task: {c: offers(12, seed=7)[c] for c in half} for task, half in halves.items()}
    async with hub(tmp_path, 12) as h, another(h) as other:
        await h.create(SHAPE_OF_12, task="sepsis", result_to_operator_only=True)
        await other.create_task("stroke", SHAPE_OF_12, deadlines=BRISK)
        leaders = {"sepsis": h, "stroke": replace(h, operator=other)}

        async def platform(task):
            runs, base = [], None
            for _ in range(3):
                runs.append(await leaders[task].run_round(offered[task], task=task, base=base))
                base = runs[-1].operator.mean | {"round": np.array(len(runs))}  # small sums may come out alike
            return runs

        sepsis, stroke = await asyncio.gather(platform("sepsis"), platform("stroke"))
        for run in stroke:
            check_mean(run, offered["stroke"], halves["stroke"], SHAPE_OF_12.ring_bits)
        for run in sepsis:
            assert run.operator.words.tolist() == run.plain_sum(halves["sepsis"], SHAPE_OF_12.ring_bits)
        assert [task.rounds async for task in h.operator.tasks()] == [3]
        assert [task.rounds async for task in other.tasks()] == [3]


async def test_so_many_rounds_of_one_operator_run_at_once_whoever_starts_them(tmp_path):
    async with hub(tmp_path, 3, rounds_max=2) as h:
        for name in ("a", "b", "c"):
            await h.create(SHAPE, task=name)
        first = await h.operator.start_round("a")
        second = await h.operator.start_round("b", key="b's")
        with pytest.raises(Overloaded, match=r"at most 2 rounds of operator operator at once .*: wait for one to end"):
            await h.operator.start_round("c")
        with pytest.raises(OutOfTurn, match="is still running"):
            await h.operator.start_round("a")
        assert await h.operator.start_round("b", key="b's") == second
        await h.operator.abort_round("a", first)
        await h.operator.start_round("c")
