"""A server that reads data off what a site refuses or repeats; clients that make the server remember too much."""

import asyncio
from dataclasses import replace

import pytest

from aggregator.errors import Equivocation, MessageError, NotAdmitted, OutOfTurn, RoundAborted
from aggregator.protocol import participant
from aggregator.protocol.context import hash_model
from aggregator.rounds.driver import EVENTS_PER_CLIENT_MAX
from aggregator.wire.messages import (
    Advert,
    AdvertList,
    ClientMessage,
    Join,
    ResultHeader,
    ResultMessage,
    RoundClosed,
    RoundFailed,
    ShareList,
    Survivors,
    UploadHeader,
    Welcome,
    Withdrawal,
)
from aggregator.wire.operator_messages import Deadlines
from aggregator.wire.vocabulary import Step, sentence
from clients.credentials import Credentials
from clients.journal import Journal
from clients.result import RoundResult
from clients.session import REFUSED_UPDATE, RESTARTED, Session
from tests.consortium import ANY_COHORT, DEPLOYMENT, TASK, drbg
from tests.harness import short_round
from tests.loopback import BRISK, offers, parameters
from tests.memory import MemoryTransport, Room, instead

N, VICTIM = 4, 3
HASTY = Deadlines(60.0, 60.0, 60.0, 0.2, 60.0, 0.0)  # seconds; the consistency check waits for nobody


def without(kind):
    """A server that never sends one kind of message."""

    def lie(message):
        if not isinstance(message.body, kind):
            yield message

    return lie


async def test_task_renamed_to_ask_for_the_same_data_again(tmp_path):
    room = Room(tmp_path, N)
    renamed = instead(Welcome, lambda body: replace(body, task="sepsis-2"))
    with pytest.raises(Equivocation, match="joined task sepsis, the server says it is sepsis-2"):
        async with room.join(0, lie=renamed):
            pytest.fail("the session opened")


async def test_unnamed_task_renamed_between_two_processes(tmp_path):
    room = Room(tmp_path, N)
    for lie, match in ((None, ""), (instead(Welcome, lambda body: replace(body, task="other")), "was sepsis and is")):
        transport = MemoryTransport(room.task, room.consortium.identities[0].certificate, *([lie] if lie else []))
        with Journal(room.journal(0)) as journal:
            session = Session(transport, Credentials(room.consortium.site(0, ANY_COHORT)), journal)
            if lie is None:
                await session.open()
                assert session.task == TASK
            else:
                with pytest.raises(Equivocation, match=match):
                    await session.open()
            await session.close()


async def test_weight_probed_by_lowering_weight_max(tmp_path):
    """The largest weight that a site refuses would be its number of samples: parameters are pinned, unseen."""
    first = Room(tmp_path, N)
    ends = await first.play(offers(N))
    assert all(isinstance(end, RoundResult) for end in ends.values())
    probe = Room(tmp_path, N, spec=parameters(weight_max=5), first_round=100)
    ends = await probe.play(offers(N, seed=1), base={"m": 1.0})
    for client, end in ends.items():
        assert isinstance(end, Equivocation)
        assert "has other parameters than this site agreed to" in str(end)
        said = probe.transports[client].sent
        assert [type(body) for body in said] == [Join, Withdrawal]
        assert REFUSED_UPDATE not in said[-1].reason


def test_expired_certificate_in_the_cohort():
    """A lying server may still use a stolen key whose certificate has ended; each client's own clock says so."""
    outcome = short_round(N, until=Step.SHARE_KEYS)
    state, adverts = outcome.players[0].states[Step.ADVERTISE_KEYS], outcome.end.announcement(0)
    participant.share_keys(state, adverts, drbg("honest"))
    clocked = replace(state, invited=replace(state.invited, expired=frozenset({1, 9})))
    with pytest.raises(NotAdmitted, match=r"certificates of clients \[1\] have expired"):
        participant.share_keys(clocked, adverts, drbg("clocked"))


async def test_round_closed_before_the_input_left(tmp_path):
    room = Room(tmp_path, N)
    lie = instead(AdvertList, lambda _: RoundClosed((0, 1, 2), result_shared=True))
    ends = await room.play(offers(N), lies={VICTIM: lie})
    assert isinstance(ends[VICTIM], Equivocation)


@pytest.mark.parametrize("survivors", [(VICTIM,), (0, VICTIM), (0, 1, 2)])
async def test_round_closed_over_too_few_for_one_that_never_signed(tmp_path, survivors):
    room = Room(tmp_path, N, deadlines=HASTY)

    def lie(message):
        if isinstance(message.body, RoundClosed):
            yield replace(message, body=replace(message.body, survivors=survivors))
        elif not isinstance(message.body, Survivors):
            yield message

    ends = await room.play(offers(N), lies={VICTIM: lie})
    assert isinstance(ends[VICTIM], RoundAborted), ends
    assert all(isinstance(ends[c], RoundResult) for c in range(N) if c != VICTIM)


async def test_one_that_missed_the_signature_still_gets_the_sum_that_it_is_in(tmp_path):
    room = Room(tmp_path, N, deadlines=HASTY)
    ends = await room.play(offers(N), lies={VICTIM: without(Survivors)})
    assert isinstance(ends[VICTIM], RoundResult), ends
    assert f"site-{VICTIM:04}" in ends[VICTIM].participants
    with Journal(room.journal(VICTIM)) as journal:
        assert journal.answered(DEPLOYMENT, TASK, hash_model(None)), "it is in a sum over this model"


async def test_result_with_more_participants_than_the_sum_holds(tmp_path):
    room = Room(tmp_path, 2)

    def crowd(message):
        if isinstance(message.body, ResultHeader):
            return ResultMessage(replace(message.body, participants=("x",) * 10_000))
        return message

    async with room.join(0) as a, room.join(1) as b:
        room.transports[0].lie_about_result = crowd
        ends = await play_two(room, a, b)
    assert isinstance(ends[0], MessageError)
    assert isinstance(ends[1], RoundResult)


async def play_two(room, *sessions):
    offered = offers(len(sessions))
    room.task.start_round(hash_model(None))
    work = [s.contribute(offered[i][0], weight=offered[i][1]) for i, s in enumerate(sessions)]
    return await asyncio.gather(*work, return_exceptions=True)


async def test_flood_of_withdrawals_and_refusals_does_not_fill_the_log(tmp_path):
    room = Room(tmp_path, N)
    room.task.join(room.consortium.identities[0].certificate)
    number = room.task.start_round(hash_model(None))
    forged = Advert(*[bytes(32)] * 4, bytes(64))
    first, second = (identity.certificate for identity in room.consortium.identities[:2])
    for _ in range(200):
        await room.task.deliver(first, ClientMessage(number, Withdrawal("x" * 1_000)))
        with pytest.raises(MessageError):
            await room.task.deliver(second, ClientMessage(number, forged))
    await room.task.close()
    events = [event async for event in room.task.history.events(number).follow()]
    assert sum(event.client == "site-0000" for event in events) == 1
    assert sum(event.client == "site-0001" for event in events) == EVENTS_PER_CLIENT_MAX


async def test_late_input_after_the_round_failed_is_refused(tmp_path):
    room = Room(tmp_path, N, deadlines=replace(BRISK, masked_input_s=0.05))
    await room.play(offers(N), lies=dict.fromkeys(range(N), without(ShareList)))
    assert room.end == "masked input: 0 clients, need 3"
    header = UploadHeader(TASK, room.number, room.spec.upload_plan.payload_bytes, (), bytes(16))
    with pytest.raises(OutOfTurn, match="takes no input now"):
        await room.task.driver(room.number).open_upload(0, header)


async def test_restarted_site_withdraws_from_the_round_it_forgot(tmp_path):
    """A new process of a site is shown the round's next step: nobody waits for secrets that are gone."""
    room = Room(tmp_path, N)
    room.task.join(room.consortium.identities[0].certificate)
    number = room.task.start_round(hash_model(None))
    said = []

    def stray(message):
        yield message
        if isinstance(message.body, Welcome):
            yield replace(message, round=number, body=Survivors((0, 1), (0, 1)))

    async with room.join(1, lie=stray):
        events = room.task.history.events(number).follow()
        async for event in events:
            if event.kind == "withdrew":
                said.append((event.client, event.detail))
                break
    await room.task.close()
    assert said == [("site-0001", RESTARTED)]


def test_reasons_reach_a_terminal_without_control_characters():
    assert sentence("gone\x1b[2J\r\nroot\x07 \u202ehere") == "gone [2J  root   here"


async def test_reasons_of_a_lying_server_reach_the_terminal_without_control_characters(tmp_path):
    room = Room(tmp_path, N)
    lie = instead(AdvertList, lambda _: RoundFailed("gone\x1b[2J"))
    ends = await room.play(offers(N), lies={VICTIM: lie})
    assert isinstance(ends[VICTIM], RoundAborted)
    assert str(ends[VICTIM]).endswith("gone [2J")


async def test_result_of_another_round_as_the_new_base(tmp_path):
    room = Room(tmp_path, 2)
    ends = await room.play(offers(2))
    async with room.join(0) as session:
        room.transports[0].lie_about_result = lambda m: (
            ResultMessage(replace(m.body, terms=replace(m.body.terms, task="other")))
            if isinstance(m.body, ResultHeader)
            else m
        )
        with pytest.raises(Equivocation, match="of sepsis, got"):
            await session.fetch_result()
    assert isinstance(ends[0], RoundResult)
