"""A server that asks for a round again: replayed, restarted, with other parameters, or with one client fewer.

Design of the protocol, sections 1 and 9. Sessions are real, their journals are on disk; the server is in memory.
"""

from dataclasses import replace

import pytest

from aggregator.crypto.roster import sign_roster
from aggregator.errors import Equivocation, MessageError, NotAdmitted, ParameterError, RoundAborted
from aggregator.protocol.participant import Safeguards
from aggregator.wire.messages import (
    Advert,
    Dealing,
    Join,
    RoundOpened,
    ServerMessage,
    SignatureList,
    Survivors,
    SurvivorSignature,
    Unmasking,
    Withdrawal,
)
from clients.result import RoundResult
from tests.consortium import Consortium
from tests.loopback import BRISK, Vanished, offers, parameters
from tests.memory import Room, instead

N = 4


def kinds(room, client):
    """What one client said, by type."""
    return [type(body) for body in room.transports[client].sent]


def refused(room, ends, error, match):
    """Every client refused with this error, and nothing but a withdrawal left it."""
    for client, end in ends.items():
        assert isinstance(end, error), end
        assert match in str(end)
        assert kinds(room, client) == [Join, Withdrawal]
        assert not room.transports[client].uploads


async def completed(room, **options):
    ends = await room.play(offers(N), **options)
    assert all(isinstance(end, RoundResult) for end in ends.values()), ends
    return ends


async def test_replayed_context(tmp_path):
    """The very same RoundOpened, bit by bit, after a restart of the clients."""
    recorded = []

    def record(message):
        if isinstance(message.body, RoundOpened):
            recorded.append(message)
        yield message

    room = Room(tmp_path, N)
    await completed(room, lies={0: record})

    def replay(message):
        yield message
        yield recorded[0]

    ends = await room.play({0: offers(N)[0]}, lies={0: replay})
    refused(room, ends, ParameterError, "this site has contributed to task sepsis on this very model before")
    ends = await room.play({0: offers(N)[0]}, lies={0: replay}, again="our operator wants it")
    refused(room, ends, Equivocation, "a round is entered once, a re-run is a new round")


async def test_same_round_with_another_nonce(tmp_path):
    """A restarted server that has forgotten which rounds it ran: same deployment, task and round, another ctx0."""
    await completed(Room(tmp_path, N))
    room = Room(tmp_path, N)
    refused(room, await room.play(offers(N), again="a reason"), Equivocation, "round 1 of task sepsis was already")


async def test_same_round_in_two_modes(tmp_path):
    """Other parameters under the name of a task, in the same round and in a later one."""
    await completed(Room(tmp_path, N))
    for first_round in (1, 2):
        for spec in (parameters(value_bits=20), parameters(rotate=True), parameters(clip=8.0)):
            room = Room(tmp_path, N, spec=spec, first_round=first_round)
            ends = await room.play(offers(N), again="a reason")
            refused(room, ends, Equivocation, "task sepsis of demo has other parameters than this site agreed to")


@pytest.mark.parametrize("stops_at", [Survivors, SignatureList])
async def test_rerun_with_one_fewer(tmp_path, stops_at):
    """The server says that the round failed once it has the masked inputs, and runs it again without client 3."""

    def hush(message):
        if not isinstance(message.body, stops_at):
            yield message

    room = Room(tmp_path, N, deadlines=replace(BRISK, consistency_check_s=0.5, unmasking_s=0.5))
    failed = await room.play(offers(N), lies=dict.fromkeys(range(N), hush))
    assert all(isinstance(end, RoundAborted) for end in failed.values()), failed
    assert all(Unmasking not in kinds(room, client) for client in range(N))
    again = Room(tmp_path, N)
    refused(again, await again.play({c: offers(N)[c] for c in range(3)}), Equivocation, "was already entered")


async def test_rerun_with_one_fewer_under_a_new_number(tmp_path):
    """After the unmasking answers have left, another sum on the same model is the site's own choice, once, and kept."""
    await completed(Room(tmp_path, N))
    three = {c: offers(N)[c] for c in range(3)}
    room = Room(tmp_path, N, first_round=2)
    refused(room, await room.play(three), ParameterError, "contributing again is a choice: pass again='the reason'")
    ends = await Room(tmp_path, N, first_round=3).play(three, again="site-0003 withdrew its consent")
    assert all(isinstance(end, RoundResult) for end in ends.values())
    room = Room(tmp_path, N, first_round=4)
    refused(room, await room.play(three), ParameterError, "contributing again is a choice")


async def test_another_model_is_another_question(tmp_path):
    await completed(Room(tmp_path, N))
    await completed(Room(tmp_path, N, first_round=2), base={"x": [0.0, 1.0]})


async def test_a_round_that_failed_before_any_answer_may_follow_under_a_new_number(tmp_path):
    """Nothing was revealed, so no choice is asked for."""
    dead = instead(Survivors, lambda body: replace(body, survivors=body.survivors[:-1]))
    room = Room(tmp_path, N)
    ends = await room.play(offers(N), lies=dict.fromkeys(range(N), dead))
    assert not any(isinstance(end, RoundResult) for end in ends.values())
    await completed(Room(tmp_path, N, first_round=2))


async def test_second_u_signature_after_restart(tmp_path):
    """A client that signed (U2, U) and died: whatever the server shows it later, it never signs in that round again."""

    def die(message):
        if isinstance(message.body, SignatureList):
            raise Vanished
        yield message

    room = Room(tmp_path, N)
    ends = await room.play(offers(N), lies=dict.fromkeys(range(N), die))
    assert all(isinstance(end, Vanished) for end in ends.values()), ends
    assert all(kinds(room, c) == [Join, Advert, Dealing, SurvivorSignature] for c in range(N))
    again = Room(tmp_path, N)
    ends = await again.play({c: offers(N)[c] for c in range(3)})
    refused(again, ends, Equivocation, "round 1 of task sepsis was already entered")


async def test_roster_rollback(tmp_path):
    consortium = Consortium.of(N)
    certificates = consortium.roster.certificates
    newer = sign_roster(consortium.authority, certificates, 2)
    await completed(Room(tmp_path, N, roster=newer))
    room = Room(tmp_path, N, first_round=2)
    refused(room, await room.play(offers(N)), NotAdmitted, "roster of demo: version 1 is older than 2, seen before")


async def test_roster_equivocation(tmp_path):
    """Two rosters with one version: two disjoint cohorts could each look like a majority."""
    await completed(Room(tmp_path, N))
    consortium = Consortium.of(N)
    fewer = sign_roster(consortium.authority, consortium.roster.certificates[:3], 1)
    room = Room(tmp_path, N, roster=fewer, first_round=2)
    ends = await room.play({c: offers(N)[c] for c in range(3)})
    refused(room, ends, Equivocation, "roster of demo: two rosters with version 1")


async def test_a_roster_of_the_servers_own_making(tmp_path):
    """Changed after it was signed: the server invents a client, or leaves one out."""
    roster = Consortium.of(N).roster
    room = Room(tmp_path, N)
    forged = replace(roster, certificates=roster.certificates[:3]).to_bytes()
    lie = instead(RoundOpened, lambda body: replace(body, roster=forged))
    ends = await room.play({0: offers(N)[0]}, lies={0: lie})
    refused(room, ends, NotAdmitted, "roster version 1 is not signed by this authority")


async def test_the_roster_shown_is_the_one_that_the_terms_name(tmp_path):
    consortium = Consortium.of(N)
    other = sign_roster(consortium.authority, consortium.roster.certificates[:3], 2).to_bytes()
    room = Room(tmp_path, N)
    lie = instead(RoundOpened, lambda body: replace(body, roster=other))
    refused(room, await room.play({0: offers(N)[0]}, lies={0: lie}), Equivocation, "names another roster than")


async def test_the_minimum_cohort_is_the_clients(tmp_path):
    """The task is content with two; a site of a roster of five sums over three by default, or over what it says."""
    room = Room(tmp_path, 5, deadlines=replace(BRISK, advertise_keys_s=0.5))
    mine = {"safeguards": Safeguards()}
    ends = await room.play({c: offers(5)[c] for c in range(2)}, how={0: mine})
    assert isinstance(ends[0], RoundAborted)
    assert "advertise keys: 2 clients, this client needs 3" in str(ends[0])
    assert kinds(room, 0) == [Join, Advert, Withdrawal]


async def test_a_sum_that_cannot_hold_the_clients_minimum_is_refused_at_once(tmp_path):
    room = Room(tmp_path, N, spec=parameters(clients_max=3))
    ends = await room.play({0: offers(N)[0]}, how={0: {"safeguards": Safeguards(minimum_cohort=4)}})
    refused(room, ends, ParameterError, "this site sums over at least 4 clients")


async def test_a_round_of_another_task_is_refused(tmp_path):
    """A client joined one task; terms of another are not what its update is for."""
    room = Room(tmp_path, N)

    def other(message):
        body = message.body
        if isinstance(body, RoundOpened):
            body = replace(body, terms=replace(body.terms, task="stroke"))
        yield ServerMessage(message.round, body)

    ends = await room.play({0: offers(N)[0]}, lies={0: other})
    refused(room, ends, MessageError, "round 1 is of task stroke, this session joined sepsis")
