"""Sessions in memory: the five steps without gRPC, and what a session keeps to itself."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import numpy as np
import pytest

import clients
from aggregator.crypto.certificates import Role
from aggregator.errors import Disconnected, NotAdmitted, ParameterError, StorageError, VersionMismatch
from aggregator.protocol.context import hash_model
from aggregator.rounds.phase import Completed
from aggregator.wire.messages import Advert, RoundOpened
from clients import session
from clients.contribution import MaskedContribution
from clients.result import RoundResult
from tests.consortium import Consortium
from tests.loopback import hub, issued, offers, operator, parameters, until, weighted_mean
from tests.memory import Room, instead


@pytest.mark.parametrize("n", [2, 3, 5])
async def test_the_five_steps_in_memory(tmp_path, n):
    room, offered = Room(tmp_path, n), offers(n)
    ends = await room.play(offered)
    assert isinstance(room.end, Completed)
    for result in ends.values():
        assert isinstance(result, RoundResult), result
        assert np.array_equal(result.words, room.end.total)
        assert np.abs(result.mean["x"] - weighted_mean(offered, range(n))).max() <= result.error_bound
    said = [[type(body).__name__ for body in room.transports[c].sent] for c in range(n)]
    assert said == [["Join", "Advert", "Dealing", "SurvivorSignature", "Unmasking"]] * n


async def test_a_round_that_opened_before_the_call_is_not_missed(tmp_path):
    room, offered = Room(tmp_path, 2), offers(2)
    async with room.join(0) as a, room.join(1) as b:
        number = room.task.start_round(hash_model(None))
        await until(lambda: len(a._line._inbox) == len(b._line._inbox) == 2)
        ends = await asyncio.gather(*(s.contribute(offered[i][0], weight=10) for i, s in enumerate((a, b))))
        assert [end.round for end in ends] == [number, number]
    await room.task.close()


async def test_a_round_that_ended_before_the_call_is_not_taken_for_the_next(tmp_path):
    """A site looked on while three others filled a round; then it takes part in the next one."""
    room, offered = Room(tmp_path, 4, spec=parameters(clients_max=3)), offers(4)
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(room.join(client)) for client in range(4)]

        def contribute(client, base):
            update, weight = offered[client]
            return asyncio.create_task(sessions[client].contribute(update, weight=weight, base=base))

        parts = [contribute(client, None) for client in (0, 1, 2)]
        first = room.task.start_round(hash_model(None))
        assert {end.round for end in await asyncio.gather(*parts)} == {first}
        base = {"x": np.ones(4)}
        parts = [contribute(client, base) for client in (1, 2, 3)]
        second = room.task.start_round(hash_model(base))
        ends = await asyncio.gather(*parts)
        assert [(end.round, len(end.participants)) for end in ends] == [(second, 3)] * 3
    await room.task.close()


async def test_a_closed_session_says_so(tmp_path):
    room = Room(tmp_path, 2)
    async with room.join(0) as closed:
        pass
    with pytest.raises(Disconnected, match="this session is closed"):
        await closed.contribute({"x": np.zeros(4)}, weight=1)


async def test_a_fault_of_the_line_itself_reaches_the_caller(tmp_path):
    """Whatever ends the keeper of the line: nobody waits for ever."""

    def break_down(message):
        raise RuntimeError("a bug")
        yield message

    room = Room(tmp_path, 2)
    with pytest.raises(RuntimeError, match="a bug"):
        async with room.join(0, lie=break_down):
            pass


async def test_secrets_are_forgotten_when_the_round_ends(tmp_path, monkeypatch):
    kept = []

    def make(*args, **kwargs):
        kept.append(MaskedContribution(*args, **kwargs))
        return kept[-1]

    monkeypatch.setattr(session, "MaskedContribution", make)
    await Room(tmp_path, 2).play(offers(2))
    assert len(kept) == 2
    for part in kept:
        assert part._state is None
        assert not part._answered


async def test_connect_checks_role_and_journal_before_it_dials(tmp_path):
    with pytest.raises(NotAdmitted, match="operator is certified as operator, not as participant"):
        async with clients.connect("localhost:1", operator(), journal=tmp_path / "j"):
            pass
    with pytest.raises(ParameterError, match="with an identity in memory, name the file of its journal"):
        async with clients.connect("localhost:1", Consortium.of(2).identities[0]):
            pass
    with pytest.raises(StorageError, match="cannot read"):
        async with clients.connect("localhost:1", tmp_path / "nowhere"):
            pass
    with pytest.raises(NotAdmitted, match="not as operator"):
        async with clients.operate("localhost:1", issued("auditor", Role.AUDITOR)):
            pass


async def test_a_directory_holds_identity_and_journal(tmp_path):
    site = tmp_path / "site"
    Consortium.of(2).identities[0].save(site)
    async with hub(tmp_path, 2) as h:
        await h.create(parameters())
        async with clients.connect(h.address, str(site)) as joined:
            assert joined.task == "sepsis"
    assert (site / "journal.sqlite").exists()


async def test_a_round_of_another_version_than_the_session_agreed_on(tmp_path):
    def newer(opened):
        return replace(opened, terms=replace(opened.terms, protocol_version=2))

    room = Room(tmp_path, 3)
    ends = await room.play(offers(3), lies={0: instead(RoundOpened, newer)})
    assert isinstance(ends[0], VersionMismatch)
    assert str(ends[0]) == "the round speaks protocol version 2, this session 1"
    assert not [body for body in room.transports[0].sent if isinstance(body, Advert)]
