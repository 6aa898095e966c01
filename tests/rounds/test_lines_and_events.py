import asyncio

import pytest

from aggregator.errors import Overloaded
from aggregator.rounds.events import EventLog
from aggregator.rounds.lines import OUTBOX_MESSAGES_MAX, Lines
from aggregator.wire import codec
from aggregator.wire.messages import Excluded, ServerMessage
from aggregator.wire.vocabulary import EventKind, Step, sentence


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


async def test_a_line_gives_messages_in_order_and_ends():
    lines = Lines(Clock())
    line = lines.connect("aiims")
    lines.send("aiims", 1, Excluded("a"))
    lines.send("nobody", 1, Excluded("nobody is there"))
    lines.send("aiims", 2, Excluded("b"))
    line.close()
    said = [await line.receive() for _ in range(3)]
    assert said == [ServerMessage(1, Excluded("a")), ServerMessage(2, Excluded("b")), None]


async def test_a_new_line_takes_the_place_of_the_old():
    clock = Clock()
    lines = Lines(clock)
    old = lines.connect("aiims")
    new = lines.connect("aiims")
    assert await old.receive() is None
    lines.disconnect(old)
    assert lines.is_connected("aiims"), "the end of the old stream says nothing of the new one"
    clock.now = 5.0
    lines.disconnect(new)
    assert not lines.is_connected("aiims")
    assert (lines.away_since("aiims"), lines.away_since("nobody")) == (5.0, 0.0)
    lines.connect("aiims")
    assert lines.changed.is_set()


async def test_a_client_that_reads_nothing_is_cut():
    lines = Lines(Clock())
    line = lines.connect("aiims")
    for i in range(OUTBOX_MESSAGES_MAX):
        lines.send("aiims", 1, Excluded(str(i)))
    assert lines.is_connected("aiims")
    with pytest.raises(Overloaded, match="aiims does not read its messages"):
        line.send(1, Excluded("x"))
    lines.send("aiims", 1, Excluded("one too many"))
    assert not lines.is_connected("aiims")
    received = [await line.receive() for _ in range(OUTBOX_MESSAGES_MAX)]
    assert received[-1] is None


async def test_readers_follow_from_the_first_event_to_the_end():
    clock = Clock()
    log = EventLog(clock)
    log.add(EventKind.STEP, Step.ADVERTISE_KEYS, clients=3)

    async def read():
        return [event async for event in log.follow()]

    early = asyncio.create_task(read())
    await asyncio.sleep(0)
    clock.now = 2.5
    log.add(EventKind.ANSWERED, Step.ADVERTISE_KEYS, client="site-0001")
    await asyncio.sleep(0)
    assert not early.done()
    log.add(EventKind.CLOSED, Step.UNMASKING, clients=2)
    async with asyncio.timeout(20):
        seen = await early
        assert seen == await read()
    assert [(e.seconds, e.kind, e.client, e.clients) for e in seen] == [
        (0.0, "step", "", 3),
        (2.5, "answered", "site-0001", 0),
        (2.5, "closed", "", 2),
    ]
    for event in seen:
        assert codec.decode(type(event), codec.encode(event)) == event


async def test_an_event_after_the_end_does_not_keep_readers_waiting():
    log = EventLog(Clock())
    log.add(EventKind.FAILED, Step.UNMASKING, detail="too few")
    log.add(EventKind.ANSWERED, Step.UNMASKING, client="site-0001")
    async with asyncio.timeout(20):
        assert len([event async for event in log.follow()]) == 2


def test_a_long_reason_is_cut_to_what_the_wire_takes():
    assert sentence("short") == "short"
    assert len(sentence("ü" * 600).encode()) == 1000
    assert sentence("a" + "ü" * 600).encode()[-2:] == "ü".encode()
