"""Operators that share a server: one that uses up what others need, and one that ends a round at the worst moment."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

import clients
from aggregator.crypto.certificates import Role
from aggregator.doctor.case import Case
from aggregator.doctor.proxy import choose_route
from aggregator.errors import MessageError, NameTaken, NotFound, Overloaded, ParameterError, RoundAborted
from aggregator.gateway.api import Door
from aggregator.protocol.context import hash_model
from aggregator.protocol.parameters import CLIP_MOST
from aggregator.rounds.opening import check_fits
from aggregator.service import tasks
from aggregator.service.start_keys import StartKeys
from aggregator.wire import codec
from aggregator.wire.messages import RoundOpened, SignatureList, Unmasking, Welcome
from aggregator.wire.operator_messages import Opening, RoundEvent, RoundRequest, RoundSummary
from clients.journal import Journal
from tests.consortium import DEPLOYMENT, TASK
from tests.loopback import hub, issued, offers, parameters
from tests.memory import Room

SHAPE = parameters()
REQUEST = RoundRequest("sepsis", bytes(32), "key", 60.0)


def test_keys_of_one_platform_leave_room_for_those_of_another():
    keys = StartKeys(lambda: 0.0, keys_max=3)
    for i in range(3):
        keys.keep("greedy", replace(REQUEST, idempotency_key=f"{i}"), i + 1)
    with pytest.raises(Overloaded, match="at most 3 idempotency keys of one operator"):
        keys.round_of("greedy", REQUEST)
    assert keys.round_of("platform", REQUEST) is None


async def test_tasks_of_one_platform_leave_room_for_those_of_another(tmp_path):
    greedy = issued("greedy", Role.OPERATOR)
    async with hub(tmp_path, 3, tasks_max=1) as h, clients.operate(h.address, greedy) as other:
        await other.create_task("a", SHAPE)
        with pytest.raises(Overloaded):
            await other.create_task("b", SHAPE)
        await h.create(SHAPE)


async def test_a_platform_that_waits_for_anothers_task_name_to_be_forgotten(tmp_path, monkeypatch):
    """Sites know a task by its name: under it, and with the same parameters, they would serve its new owner."""
    monkeypatch.setattr(tasks, "DELETED_NAMES_KEPT", 1)
    patient = issued("patient", Role.OPERATOR)
    async with hub(tmp_path, 3) as h, clients.operate(h.address, patient) as other:
        await h.create(SHAPE)
        await h.operator.cancel_task("sepsis")
        await h.operator.delete_task("sepsis")
        for name in ("a", "b", "c"):
            await other.create_task(name, SHAPE)
            await other.cancel_task(name)
            await other.delete_task(name)
        with pytest.raises(NameTaken, match="there was a task sepsis, which was deleted"):
            await other.create_task("sepsis", SHAPE)


async def test_running_tasks_share_one_roster(tmp_path):
    """It is megabytes with thousands of sites, and each task's last round keeps it."""
    rooms = [Room(tmp_path, 3) for _ in range(2)]
    for room in rooms:
        room.number = room.task.start_round(hash_model(None))
    first, second = (room.task.driver(room.number) for room in rooms)
    openings = [driver._stand.phase.announcement(0) for driver in (first, second)]
    assert all(isinstance(opened, RoundOpened) for opened in openings)
    assert openings[0].roster is openings[1].roster
    for room in rooms:
        await room.task.close()


async def test_a_round_aborted_when_some_have_answered_gives_no_sum_and_those_are_spent(tmp_path):
    """Of the server's honesty only that it forgets; of a site's own memory, that its answer has left."""
    room, victim = Room(tmp_path, 4), 3
    answered = asyncio.Event()
    deliver = room.task.deliver

    async def tell(site, message):
        await deliver(site, message)
        if isinstance(message.body, Unmasking):
            answered.set()

    room.task.deliver = tell

    def lie(message):
        if not isinstance(message.body, SignatureList):
            yield message

    async def abort():
        await answered.wait()
        await room.task.abort_round(room.number, "operator mallory aborted the round")

    aborting = asyncio.create_task(abort())
    ends = await room.play(offers(4), lies=dict.fromkeys((1, 2, victim), lie))
    await aborting
    assert all(isinstance(end, RoundAborted) for end in ends.values()), ends
    with pytest.raises(NotFound, match="the round failed"):
        room.task.history.result(room.number)
    assert room.task.history.find(room.number).sum is None
    with Journal(room.journal(0)) as journal:
        assert journal.answered(DEPLOYMENT, TASK, hash_model(None)), "its shares have left"
    with Journal(room.journal(victim)) as journal:
        assert not journal.answered(DEPLOYMENT, TASK, hash_model(None)), "it gave nothing"


@pytest.mark.parametrize(("sample", "roster"), [(3, 12), (33, 100), (99, 300), (100, 1_000)])
def test_a_draw_so_small_that_all_of_it_may_be_corrupt(sample, roster):
    """Fewer than a third of the roster may be: a lying server draws just them, and one more."""
    spec = parameters(clients_max=1_000)
    with pytest.raises(ParameterError, match=f"sample is {sample}: of a roster of {roster} that is too few for any"):
        check_fits(spec, Opening(sample=sample), roster)
    check_fits(spec, Opening(sample=roster // 2), roster)


@pytest.mark.parametrize(
    "said",
    [
        RoundEvent(0.0, "refused", "masked_input", "delhi", "gone\x1b[2J", 0),
        RoundEvent(0.0, "refused", "masked_input", "delhi\x1b[2J", "gone", 0),
        RoundEvent(0.0, "re\nfused", "masked_input", "delhi", "gone", 0),
        RoundSummary(1, "failed", "", 0, "gone\u202e", 0.0, 0.0, "none", 0),
        Welcome("sepsis\x1b[2J", 0, 1),
    ],
)
def test_a_lying_server_whose_words_an_operators_terminal_obeys(said):
    message = codec.generated(type(said))()
    for name in (field for field in said.__slots__):
        setattr(message, name, getattr(said, name))
    with pytest.raises(MessageError, match="holds characters that cannot be printed") as refusal:
        codec.decode(type(said), message.SerializeToString())
    assert str(refusal.value).isprintable()


def test_no_repr_tells_a_password(tmp_path):
    word = "correct-horse-battery-staple-0123"
    proxy = f"http://site:{word}@proxy:3128"
    told = [
        repr(Door(word.encode())),
        repr(Case("hub", 7443, tmp_path, lambda: datetime.now(UTC), {"https_proxy": proxy}, proxy)),
        repr(choose_route({}, "hub", proxy)),
        choose_route({}, "hub", proxy).reason,
    ]
    assert not any(word in text for text in told), told


@pytest.mark.parametrize("value_bits", [2, 16, 54])
def test_clips_so_large_that_the_time_tells_how_many_entries_are_small(value_bits):
    """A product that is subnormal takes processors longer; the smallest float32, of the lightest site, is none."""
    spec = parameters(clip=CLIP_MOST, weight_max=2**53, value_bits=value_bits)
    steps = float(np.float32(1e-45)) * (1 / spec.weight_max / spec.scale)
    assert steps >= np.finfo(np.float64).smallest_normal
