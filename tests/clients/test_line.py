import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from aggregator.errors import (
    Disconnected,
    Equivocation,
    MessageError,
    NotAdmitted,
    NotFound,
    Overloaded,
    ParameterError,
    VersionMismatch,
)
from aggregator.wire.messages import (
    PROTOCOL_VERSION,
    ClientMessage,
    Excluded,
    Join,
    RoundClosed,
    RoundFailed,
    RoundOpened,
    ServerMessage,
    SurvivorSignature,
    Welcome,
)
from clients.credentials import Credentials
from clients.line import INBOX_MESSAGES_MAX, Line
from clients.rosters import Rosters
from tests.consortium import Consortium
from tests.loopback import TOO_LONG_S, parameters, until

WELCOME = ServerMessage(0, Welcome("sepsis", 0, 1))


class Script:
    """A transport whose streams each give what the test says, then wait; an error in a stream's place is raised."""

    def __init__(self, *streams):
        self.streams, self.sent, self.opened = list(streams), [], 0

    @asynccontextmanager
    async def control(self):
        self.opened += 1
        stream = _Stream(self, self.streams.pop(0))
        yield stream


class _Stream:
    def __init__(self, script, messages):
        self.script, self.messages = script, list(messages)

    async def send(self, message):
        self.script.sent.append(message)

    async def receive(self):
        if not self.messages:
            await asyncio.Event().wait()
        message = self.messages.pop(0)
        if isinstance(message, Exception):
            raise message
        return message


@asynccontextmanager
async def opened(*streams, task="sepsis", patience_s=5.0, rosters=None, credentials=None):
    script, who = Script(*streams), credentials or Credentials(Consortium.of(2).site(0))
    line = Line(script, task, patience_s, lambda _: None, who, rosters=rosters or Rosters())
    try:
        async with asyncio.timeout(TOO_LONG_S):
            await line.open()
            yield script, line
    finally:
        await line.close()


def excluded(number):
    return ServerMessage(number, Excluded("x"))


async def test_a_line_begins_with_join_and_gives_what_comes():
    async with opened([WELCOME, excluded(1), excluded(2)]) as (script, line):
        assert script.sent == [ClientMessage(0, Join(1, PROTOCOL_VERSION, "sepsis", sha256(b"").digest()))]
        assert [await line.receive() for _ in range(3)] == [WELCOME, excluded(1), excluded(2)]


async def test_a_broken_line_is_opened_again_and_joins_again():
    broken = Disconnected("cut")
    streams = ([broken], [WELCOME, broken], [WELCOME, excluded(3)])
    async with opened(*streams, task="") as (script, line):
        heard = [await line.receive() for _ in range(3)]
        assert heard == [WELCOME, WELCOME, excluded(3)]
        assert script.opened == 3
        assert [message.body.task for message in script.sent] == ["", "", "sepsis"], "the name it learnt, from then on"


@pytest.mark.parametrize("error", [Disconnected("away"), Overloaded("full")])
async def test_patience_ends(error):
    with pytest.raises(type(error)):
        async with opened([error], patience_s=0.0):
            pass


async def test_a_named_refusal_is_not_tried_again():
    with pytest.raises(NotFound, match="no task"):
        async with opened([NotFound("no task")], [WELCOME]):
            pass


async def test_an_error_after_the_welcome_ends_every_wait():
    async with opened([WELCOME, MessageError("you lie")]) as (script, line):
        await line.receive()
        for _ in range(2):
            with pytest.raises(MessageError, match="you lie"):
                await line.receive()
        await line.send(1, SurvivorSignature(bytes(64)))
        assert script.opened == 1


async def test_what_does_not_begin_with_welcome_is_refused():
    with pytest.raises(MessageError, match="the server did not answer Join with Welcome"):
        async with opened([excluded(1)]):
            pass


async def test_a_task_does_not_change_its_name():
    again = ServerMessage(0, Welcome("stroke", 0, 1))
    async with opened([WELCOME, Disconnected("cut")], [again], task="") as (_, line):
        await line.receive()
        with pytest.raises(Equivocation, match="joined task sepsis, the server says it is stroke"):
            await line.receive()


async def test_what_is_sent_on_a_broken_line_is_dropped():
    """The server asks again when the line is back."""
    gone = Disconnected("cut")
    async with opened([WELCOME, gone], [gone], [WELCOME]) as (script, line):
        await until(lambda: script.opened == 2)
        await line.send(1, SurvivorSignature(bytes(64)))
        assert not [message for message in script.sent if not isinstance(message.body, Join)]


def round_opened(number):
    terms = Consortium.of(2).terms(parameters(), round=number)
    return ServerMessage(number, RoundOpened(terms.to_message(), b"roster"))


@pytest.mark.parametrize(
    ("came", "kept"),
    [
        ([round_opened(1)], [round_opened(1)]),
        ([round_opened(1), ServerMessage(1, RoundFailed("x"))], []),
        ([round_opened(1), ServerMessage(1, RoundClosed((0,), True)), round_opened(2)], [round_opened(2)]),
        ([round_opened(1), excluded(1), round_opened(2), ServerMessage(2, RoundFailed("x"))], []),
        ([round_opened(1), round_opened(2)], [round_opened(2)]),
        ([excluded(5)], []),
    ],
)
async def test_only_a_round_that_is_still_open_is_waiting_for_the_next_call(came, kept):
    async with opened([WELCOME, *came, excluded(99)]) as (_, line):
        await until(lambda: len(line._inbox) == len(came) + 2)
        line.skip_ended_rounds()
        assert list(line._inbox) == kept


async def test_a_message_is_put_back_for_the_next_reader():
    async with opened([WELCOME, excluded(1)]) as (_, line):
        first = await line.receive()
        line.put_back(first)
        assert await line.receive() == first


async def test_what_nobody_reads_does_not_pile_up():
    async with opened([WELCOME, *(excluded(number) for number in range(1, 200))]) as (_, line):
        await until(lambda: bool(line._inbox) and line._inbox[-1].round == 199)
        assert len(line._inbox) == INBOX_MESSAGES_MAX


async def test_a_welcome_that_names_no_task():
    with pytest.raises(ParameterError, match="use 1 to 63 of a-z"):
        async with opened([ServerMessage(0, Welcome("[red]x", 0, 1))], task=""):
            pytest.fail("the line opened")


def opening(number, roster):
    terms = Consortium.of(2).terms(parameters(), round=number)
    return ServerMessage(number, RoundOpened(terms.to_message(), roster))


NOTHING = sha256(b"").digest()


async def test_a_roster_that_came_over_the_line_may_be_left_out_from_then_on():
    """Also after the line broke: it is named when the site joins again."""
    came = [WELCOME, opening(1, b"one"), opening(2, b""), opening(3, b"two"), opening(4, b""), Disconnected("cut")]
    async with opened(came, [WELCOME, opening(5, b"")]) as (script, line):
        heard = [await line.receive() for _ in range(7)]
        assert [m.body.roster for m in heard if m.round] == [b"one", b"one", b"two", b"two", b"two"]
        assert [m.body.roster_hash for m in script.sent] == [NOTHING, sha256(b"two").digest()]


async def test_a_roster_that_another_session_of_the_process_verified_is_named():
    known, consortium = Rosters(), Consortium.of(2)
    data = consortium.roster.to_bytes()
    known.verified(data, consortium.authority.certificate, datetime.now(UTC))
    async with opened([WELCOME, opening(1, b"")], rosters=known) as (script, line):
        assert [await line.receive() for _ in range(2)] == [WELCOME, opening(1, data)]
        assert script.sent[0].body.roster_hash == sha256(data).digest()


async def test_a_roster_left_out_for_a_site_that_never_had_one():
    async with opened([WELCOME, opening(1, b"")]) as (_, line):
        await line.receive()
        with pytest.raises(MessageError, match="round 1: the server left out a roster that this site never had"):
            await line.receive()


async def test_a_version_that_the_site_does_not_speak():
    for version in (PROTOCOL_VERSION + 1, 2**31):
        with pytest.raises(VersionMismatch, match=f"chose protocol version {version}, this site speaks 1 to 1"):
            async with opened([ServerMessage(0, Welcome("sepsis", 0, version))]):
                pytest.fail("the line opened")


async def test_a_site_refused_from_the_start_is_told_at_once_and_later_waits_for_a_renewal():
    with pytest.raises(NotAdmitted, match="who are you"):
        async with opened([NotAdmitted("who are you")], patience_s=600.0):
            pytest.fail("the line opened")
    newest = iter([Consortium.of(2).site(1)])
    credentials = Credentials(Consortium.of(2).site(0), lambda: next(newest))
    streams = [WELCOME, NotAdmitted("replaced")], [WELCOME, excluded(3)]
    async with opened(*streams, credentials=credentials) as (_, line):
        assert [await line.receive() for _ in range(3)] == [WELCOME, WELCOME, excluded(3)]


async def test_a_line_that_is_reopened_joins_again():
    async with opened([WELCOME], [WELCOME, excluded(3)]) as (script, line):
        await line.receive()
        line.reopen()
        assert [await line.receive() for _ in range(2)] == [WELCOME, excluded(3)]
        assert script.opened == 2
