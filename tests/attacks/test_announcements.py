"""A server that says one thing and then another, or things out of order, to a client in the middle of a round.

The client ends its part with Equivocation; after its honest answers nothing leaves it but a withdrawal.
"""

from dataclasses import replace

import pytest

from aggregator.errors import Equivocation, MessageError, RoundAborted
from aggregator.wire.messages import (
    Advert,
    AdvertList,
    Dealing,
    Join,
    ListedAdvert,
    ResultHeader,
    ResultMessage,
    RoundClosed,
    RoundOpened,
    ServerMessage,
    ShareList,
    SignatureList,
    Survivors,
    SurvivorSignature,
    Unmasking,
    Welcome,
    Withdrawal,
)
from clients.result import RoundResult
from tests.loopback import offers
from tests.memory import Room, instead, twice

N, VICTIM = 5, 4
SAID = [Join, Advert, Dealing, SurvivorSignature, Unmasking]


def forged_listing(body):
    return replace(body, listed=(ListedAdvert(0, bytes(32)), *body.listed[1:]))


FORGERIES = {
    RoundOpened: lambda body: replace(body, terms=replace(body.terms, server_nonce=bytes(32))),
    AdvertList: forged_listing,
    ShareList: lambda body: replace(body, dealers=body.dealers[1:]),
    Survivors: lambda body: replace(body, survivors=body.survivors[1:]),
    SignatureList: lambda body: SignatureList(body.signatures[1:]),
}


async def play(tmp_path, lie):
    """One victim among honest clients; what it got, and what it said after Join."""
    room = Room(tmp_path, N)
    ends = await room.play(offers(N), lies={VICTIM: lie})
    assert all(isinstance(ends[c], RoundResult) for c in range(N) if c != VICTIM), "the others go on"
    return ends[VICTIM], room.transports[VICTIM]


@pytest.mark.parametrize("kind", FORGERIES)
async def test_an_announcement_made_twice_differently(tmp_path, kind):
    end, transport = await play(tmp_path, twice(kind, FORGERIES[kind]))
    assert isinstance(end, Equivocation)
    assert f"the server announced {kind.__name__} twice, differently" in str(end)
    answers = {RoundOpened: 2, AdvertList: 3, ShareList: 3, Survivors: 4, SignatureList: 5}[kind]
    assert [type(body) for body in transport.sent] == [*SAID[:answers], Withdrawal]
    assert len(transport.uploads) == (kind in (ShareList, Survivors, SignatureList))


@pytest.mark.parametrize("kind", FORGERIES)
async def test_offset_zero_resend_is_bit_identical(tmp_path, kind):
    """The same announcement again, as after a broken line, gets the same bytes again; they count once."""
    end, transport = await play(tmp_path, twice(kind, lambda body: body))
    assert isinstance(end, RoundResult)
    assert len(transport.uploads) == 1 + (kind is ShareList)
    assert len(set(map(tuple, transport.uploads))) == 1
    repeated = [body for body in transport.sent if transport.sent.count(body) == 2]
    assert len(repeated) == (0 if kind is ShareList else 2)
    assert len(transport.sent) - len(repeated) // 2 == len(SAID)


@pytest.mark.parametrize("kind", [ShareList, Survivors, SignatureList])
async def test_an_announcement_before_its_turn(tmp_path, kind):
    """Instead of U1, what belongs to a later step."""
    body = {
        ShareList: ShareList((0, 1, 2, 3, 4), ()),
        Survivors: Survivors((0, 1, 2, 3, 4), (0, 1, 2, 3, 4)),
        SignatureList: SignatureList(()),
    }[kind]
    end, transport = await play(tmp_path, instead(AdvertList, lambda _: body))
    assert isinstance(end, MessageError)
    assert f"{kind.__name__} came out of order" in str(end)
    assert [type(body) for body in transport.sent] == [Join, Advert, Withdrawal]


async def test_a_long_lie_does_not_hide_its_name(tmp_path):
    """The withdrawal's text has 1,000 bytes at most; what is wrong here takes more to say."""
    crowd = tuple(range(1_000))
    end, transport = await play(tmp_path, instead(Survivors, lambda body: replace(body, survivors=crowd)))
    assert isinstance(end, Equivocation)
    assert "who are not in U2" in str(end)
    assert isinstance(transport.sent[-1], Withdrawal)


def closed(**changes):
    return instead(RoundClosed, lambda body: replace(body, **changes))


@pytest.mark.parametrize("survivors", [(0, 1, 2, 4), (0, 1, 2, 3), (4,)])
async def test_a_round_closed_over_other_survivors_than_were_signed(tmp_path, survivors):
    end, _ = await play(tmp_path, closed(survivors=survivors))
    assert isinstance(end, Equivocation)
    assert "closed over other clients than this site agreed to" in str(end)


async def test_a_round_closed_before_it_began(tmp_path):
    """RoundClosed right after the advert: this client's input never left, so it is in no sum."""
    end, transport = await play(tmp_path, instead(AdvertList, lambda _: RoundClosed((0, 1, 2, 3, 4), True)))
    assert isinstance(end, Equivocation)
    assert transport.sent[-1] == Withdrawal(str(end)) or type(transport.sent[-1]) is Advert


async def test_a_client_that_is_told_of_the_end_in_place_of_the_survivors_checks_them_as_if_it_signed(tmp_path):
    """Its line broke before it signed: it takes the result, but not of a sum that it would not have signed."""
    end, _ = await play(tmp_path, instead(Survivors, lambda body: RoundClosed(body.survivors, False)))
    assert end is None
    room = tmp_path / "few"
    room.mkdir()
    end, _ = await play(room, instead(Survivors, lambda _: RoundClosed((3, 4), True)))
    assert isinstance(end, RoundAborted)


async def results(tmp_path, forge):
    """A round whose result is forged for one client on its way down."""
    room = Room(tmp_path, N)

    def lie(message):
        room.transports[VICTIM].lie_about_result = forge
        yield message

    return (await room.play(offers(N), lies={VICTIM: lie}))[VICTIM]


def header(forge):
    def lie(message):
        return ResultMessage(forge(message.body)) if isinstance(message.body, ResultHeader) else message

    return lie


async def test_the_result_of_another_round(tmp_path):
    other = header(lambda h: replace(h, terms=replace(h.terms, server_nonce=bytes(32))))
    end = await results(tmp_path, other)
    assert isinstance(end, Equivocation)
    assert "is not of the round that this client took part in" in str(end)


async def test_a_result_of_other_participants(tmp_path):
    end = await results(tmp_path, header(lambda h: replace(h, participants=h.participants[:-1])))
    assert isinstance(end, Equivocation)
    assert "the result names other participants than the round" in str(end)


async def test_a_result_that_no_such_sum_can_have(tmp_path):
    """All bits set: more than five clients can add up to."""

    def full(message):
        body = message.body
        return (
            message if isinstance(body, ResultHeader) else ResultMessage(replace(body, data=b"\xff" * len(body.data)))
        )

    end = await results(tmp_path, full)
    assert isinstance(end, MessageError | RoundAborted)


async def test_a_server_that_renames_the_task(tmp_path):
    def rename(message):
        yield ServerMessage(message.round, Welcome("stroke", 0, 1)) if isinstance(message.body, Welcome) else message

    room = Room(tmp_path, N)
    with pytest.raises(Equivocation, match="joined task sepsis, the server says it is stroke"):
        async with room.join(0, lie=rename):
            pass
