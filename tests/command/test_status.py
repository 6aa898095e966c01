"""What `sangam status` shows: of made-up rounds to the letter, of real ones as they happen, of a server that goes."""

import asyncio
import io
import json
import os
import pty
import signal
import sys
from contextlib import AsyncExitStack

import pytest
from rich.console import Console

from aggregator.command.overview import IDLE_SHOWN, Overview, span
from aggregator.command.progress import Board
from aggregator.command.status import Looking
from aggregator.errors import Disconnected
from aggregator.service.app import serve
from aggregator.wire.operator_messages import RoundEvent, RoundSummary, TaskSummary
from clients.operator import operate
from tests.consortium import TASK, Consortium
from tests.loopback import BRISK, TOO_LONG_S, Watcher, configured, hub, offers, operator, parameters
from tests.typed import ended, sangam

NOW = 1_000_000.0


def task(name, running=0, **changes):
    fields = {"owner": "operator", "state": "open", "mode": "lattice", "entries": 1_000, "rounds": 1, "last_round": 0}
    told = fields | {"name": name, "running_round": running, "connected": 5, "created_s": 0.0} | changes
    return TaskSummary(**told)


def summary(number, state, **changes):
    fields = {"step": "", "clients": 5, "reason": "", "started_s": NOW - 90.0, "seconds": 30.0, "result": "none"}
    return RoundSummary(round=number, state=state, **(fields | {"result_bytes": 0} | changes))


def board(*events):
    made = Board(lambda: 100.0)
    for event in events:
        made.take(event)
    return made


def drawn(overview, width=120):
    console = Console(file=io.StringIO(), width=width)
    console.print(overview)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines() if line.strip()]


def test_a_running_round_its_steps_what_ended_and_who_waits():
    follows = board(
        RoundEvent(0.0, "step", "advertise_keys", "", "", 6),
        *(RoundEvent(1.0, "answered", "advertise_keys", f"site-{i}", "", 0) for i in range(5)),
        RoundEvent(2.0, "dropped", "advertise_keys", "[red]site", "no answer in time", 0),
        RoundEvent(2.0, "step", "share_keys", "", "", 5),
        RoundEvent(100.0, "answered", "share_keys", "site-0", "", 0),
    )
    rounds = {
        "lungs": [summary(8, "running", step="share_keys"), summary(7, "closed")],
        "eye": [summary(3, "failed", reason="share keys: 1 clients, [need] 2", started_s=NOW - 7_300.0)],
    }
    tasks = [task("eye"), task("lungs", running=8)]
    assert drawn(Overview("hub:7443", NOW, tasks, rounds, {"lungs": follows}))[1:] == [
        "running round step answered for dropped out connected",
        "lungs 8 share keys (2/5) ━━━━╸ 1 of 5 1 min 40 s 1 5",
        "step answered of began took",
        "advertise keys 5 6 0.0 s 2.0 s",
        "share keys 1 5 2.0 s 98.0 s",
        "2.00 s [red]site dropped no answer in time",
        "ended round when took how",
        "lungs 7 1 min 00 s ago 30.0 s closed with 5 sites",
        "eye 3 2 h 01 min ago 30.0 s failed: share keys: 1 clients, [need] 2",
        "waiting mode values rounds connected",
        "eye lattice 1,000 1 5",
    ]


def test_a_round_that_gathers_counts_who_has_come():
    follows = board(RoundEvent(95.0, "gathering", "", "", "", 12))
    seen = Overview("hub:7443", NOW, [task("lungs", 8)], {"lungs": [summary(8, "gathering")]}, {"lungs": follows})
    assert "gathering" in drawn(seen)[2]
    assert "5 of 12" in drawn(seen)[2]
    assert seen.as_json()["tasks"][0]["running"]["of"] == 12


def test_rounds_that_are_not_followed_are_shown_by_their_summary():
    tasks = [task(f"t{i}", 8) for i in range(2)]
    rounds = {one.name: [summary(8, "running", step="upload", clients=31)] for one in tasks}
    lines = drawn(Overview("hub:7443", NOW, tasks, rounds))
    assert [line.split()[:3] for line in lines[2:4]] == [["t0", "8", "upload"], ["t1", "8", "upload"]]
    assert [line.split()[-5:] for line in lines[2:4]] == [["31", "30.0", "s", "0", "5"]] * 2


def test_nothing_and_nobody():
    assert drawn(Overview("hub:7443", NOW))[1] == "There is no task of yours yet: sangam task create makes one."
    many = Overview("hub:7443", NOW, [task(f"t{i:03}") for i in range(IDLE_SHOWN + 3)])
    assert drawn(many)[-1] == "and 3 more"
    away = Overview("hub:7443", NOW, [task("lungs")], away="hub:7443 cannot be reached")
    assert drawn(away)[1:3] == [
        "The aggregator is away, and is asked again. Below is what it said last.",
        "hub:7443 cannot be reached",
    ]
    assert "lungs" in drawn(away)[-1]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (61.0, "1 min 01 s"), (7_265.0, "2 h 01 min"), (180_000.0, "2 days")]
)
def test_times(seconds, words):
    assert span(seconds) == words


async def test_a_real_round_step_by_step_and_its_end(tmp_path):
    offered, died = offers(4), asyncio.Event()
    watcher = Watcher(dies_at="share_keys", calls=lambda step: died.set() if step == "share_keys" else None)
    async with hub(tmp_path, 4) as h, AsyncExitStack() as stack:
        await h.create(parameters())
        looking = Looking(h.address, h.operator)
        sessions = [await stack.enter_async_context(h.join(client)) for client in offered]
        number = await h.operator.start_round(TASK)
        parts = [
            asyncio.create_task(
                session.contribute(offered[c][0], weight=offered[c][1], observer=watcher if c == 3 else None)
            )
            for c, session in enumerate(sessions)
        ]
        await died.wait()
        seen = await looking.settled()
        ((_, one, standing),) = seen.running()
        assert (one.round, standing.step, standing.answered, standing.of) == (number, "share_keys", 3, 4)
        assert seen.tasks[0].connected == 4
        await sessions[3].close()
        await asyncio.gather(*parts, return_exceptions=True)
        seen = await looking.look()
        assert (list(seen.running()), seen.boards) == ([], {})
        ((name, last),) = seen.ended()
        assert (name, last.round, last.state, last.clients) == (TASK, number, "closed", 3)
        await looking.close()


async def test_a_server_that_goes_is_said_and_one_that_comes_back_is_seen(tmp_path):
    consortium = Consortium.of(2)
    async with asyncio.timeout(TOO_LONG_S):
        async with serve(configured(tmp_path, consortium)) as running:
            address = f"localhost:{running.port}"
            async with operate(address, operator()) as session:
                await session.create_task("lungs", parameters(), deadlines=BRISK)
                looking = Looking(address, session)
                assert not (await looking.look_or_say_why()).away
        async with operate(address, operator()) as session:
            looking._operator = session
            seen = await looking.look_or_say_why()
            assert f"{address} cannot be reached" in seen.away
            assert [one.name for one in seen.tasks] == ["lungs"], "what it said last"
            with pytest.raises(Disconnected):
                await looking.look()
            async with serve(configured(tmp_path, consortium, address=address)):
                while (seen := await looking.look_or_say_why()).away:
                    pass
                assert seen.tasks == [], "another server: it has no tasks"


async def test_the_command_prints_once_for_people_and_for_programs(tmp_path):
    operator().save(tmp_path / "operator")
    async with hub(tmp_path, 2) as h:
        await h.create(parameters(), task="lungs")
        words = ("status", h.address, "--identity", tmp_path / "operator", "--once")
        told, _ = await ended(await sangam(*words))
        assert "1 task · 0 running" in told
        assert "lungs" in told
        told, _ = await ended(await sangam(*words, "--json"))
        assert [one["name"] for one in json.loads(told)["tasks"]] == ["lungs"]


async def test_on_a_terminal_it_is_drawn_again_and_again_until_ctrl_c(tmp_path):
    operator().save(tmp_path / "operator")
    ours, its = pty.openpty()
    seen, loop = bytearray(), asyncio.get_running_loop()
    async with hub(tmp_path, 2) as h:
        await h.create(parameters(), task="lungs")
        words = ["-m", "aggregator", "status", h.address, "--identity", str(tmp_path / "operator"), "--every-s", "0.2"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", *words, stdout=its, stderr=its, env={**os.environ, "TERM": "xterm"}
        )
        os.close(its)
        shown = {name: asyncio.Event() for name in ("lungs", "eye")}

        def read():
            seen.extend(os.read(ours, 1 << 16))
            for name, event in shown.items():
                if name.encode() in seen:
                    event.set()

        loop.add_reader(ours, read)
        await shown["lungs"].wait()
        await h.create(parameters(), task="eye")
        await shown["eye"].wait()
        loop.remove_reader(ours)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    os.close(ours)
    assert b"Traceback" not in seen
