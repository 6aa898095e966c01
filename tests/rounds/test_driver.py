"""The driver over an in-memory transport: real steps on both sides, and a clock that the tests move."""

import asyncio
import dataclasses

import pytest

from aggregator.errors import MessageError, OutOfTurn, Overloaded
from aggregator.rounds.driver import Driver, first
from aggregator.rounds.lines import Lines
from aggregator.rounds.phase import Completed, Failed
from aggregator.storage.forgetful import ForgetfulRound
from aggregator.wire import codec
from aggregator.wire.messages import (
    Advert,
    AdvertList,
    ClientMessage,
    Complaint,
    Excluded,
    Join,
    RoundClosed,
    RoundFailed,
    RoundOpened,
    ServerMessage,
    ShareList,
    SignatureList,
    Survivors,
    Unmasking,
    UploadHeader,
    Withdrawal,
)
from aggregator.wire.operator_messages import Deadlines
from aggregator.wire.vocabulary import MASKED_STEPS, EventKind, Step
from tests.consortium import Consortium, drbg
from tests.harness import Player, parameters, ring_words

DEADLINES = Deadlines(10.0, 10.0, 10.0, 10.0, 10.0, 3.0)
STEP_OF = {
    RoundOpened: Step.ADVERTISE_KEYS,
    AdvertList: Step.SHARE_KEYS,
    ShareList: Step.MASKED_INPUT,
    Survivors: Step.CONSISTENCY_CHECK,
    SignatureList: Step.UNMASKING,
}


def site(client):
    return f"site-{client:04}"


def client_of(line):
    return int(line.site.removeprefix("site-"))


class SlowRecords(ForgetfulRound):
    """A disk on which the first upload that arrives takes until `stuck` is set; and whose uploads were taken back."""

    __slots__ = ("arrivals", "stuck", "taken_back")
    durable = True

    def __init__(self, spool):
        super().__init__(spool)
        for name, value in (("arrivals", []), ("stuck", asyncio.Event()), ("taken_back", [])):
            object.__setattr__(self, name, value)

    def arrived(self, step, member, header, staged):
        self.arrivals.append(member)

    def refused(self, step, member):
        self.taken_back.append(member)

    async def written(self):
        if len(self.arrivals) == 1:
            await self.stuck.wait()


async def unheard(end):
    """Nobody writes down how a round ended."""


class Room:
    """A task's lines, one driver, and the players; `now` is the time."""

    def __init__(self, n, records=ForgetfulRound, **changes):
        consortium = Consortium.of(n)
        self.terms = consortium.terms(parameters(n, **changes))
        words = ring_words(self.terms, range(n))
        self.players = [Player(consortium.site(c), words[c], drbg("client", c)) for c in range(n)]
        self.now = 0.0
        self.lines = Lines(lambda: self.now)
        setting = consortium.setting(self.terms)
        self.records = records(setting.spool)
        clock = {"clock": lambda: self.now, "now": lambda: self.now}
        self.driver = Driver(
            first(setting), setting, DEADLINES, self.lines, self.records, result_shared=True, ended=unheard, **clock
        )
        self.heard = {client: [] for client in range(n)}

    def connect(self, *clients):
        """Lines from before the round opens."""
        return [self.lines.connect(site(client)) for client in clients]

    def come_back(self, client):
        """A line in the middle of the round, greeted as the task does."""
        line = self.lines.connect(site(client))
        self.driver.greet(client)
        return line

    def pass_time(self, seconds):
        """Move the clock; whoever waits looks at it."""
        self.now += seconds
        self.lines.changed.set()

    async def attend(self, line, leaves=None):
        """One client on its line until the round ends for it, or until it leaves before it answers a step."""
        client = client_of(line)
        while (message := await line.receive()) is not None:
            body = codec.decode(ServerMessage, codec.encode(message)).body
            self.heard[client].append(type(body))
            if isinstance(body, RoundClosed | RoundFailed | Excluded):
                return body
            if STEP_OF[type(body)] == leaves:
                self.lines.disconnect(line)
                return None
            await self.answer(client, self.players[client].react(body))
        return None

    async def answer(self, client, bodies):
        if not isinstance(bodies[0], UploadHeader):
            await self.driver.deliver(client, ClientMessage(1, bodies[0]))
            return
        opened = await self.driver.open_upload(client, bodies[0])
        if opened is not None:
            for chunk in bodies[1 + opened[1].chunks :]:
                opened[0].receive(opened[1], chunk)
            await self.driver.close_upload(*opened)

    async def hears(self, line, kind):
        """The next message of this kind."""
        async with asyncio.timeout(20):
            while True:
                message = await line.receive()
                assert message is not None
                if isinstance(message.body, kind):
                    return message.body

    async def play(self, leaves):
        """The whole round; what each client heard last, and how it ended."""
        lines = self.connect(*self.heard)
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            end = group.create_task(self.driver.run())
            last = [group.create_task(self.attend(line, leaves.get(client_of(line)))) for line in lines]
        return end.result(), [task.result() for task in last]

    def sum_of(self, clients):
        columns = zip(*(self.players[c].words.tolist() for c in clients), strict=True)
        return [sum(column) % 2**self.terms.parameters.ring_bits for column in columns]


async def logged(driver):
    async with asyncio.timeout(20):
        return [event async for event in driver.events.follow()]


async def until(condition):
    """Let the others run until something holds."""
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


async def test_a_round_of_five_steps():
    room = Room(4)
    end, last = await room.play({})
    assert isinstance(end, Completed)
    assert end.total.tolist() == room.sum_of(range(4))
    assert last == [RoundClosed((0, 1, 2, 3), result_shared=True)] * 4
    assert room.heard[0] == [*STEP_OF, RoundClosed]
    events = await logged(room.driver)
    assert [e.step for e in events if e.kind == EventKind.STEP] == list(MASKED_STEPS)
    assert [e.client for e in events if e.kind == EventKind.ANSWERED and e.step == Step.UNMASKING] != []
    assert sum(e.kind == EventKind.ANSWERED for e in events) == 4 * 5
    assert (events[-1].kind, events[-1].clients) == (EventKind.CLOSED, 4)


async def test_a_client_leaves_at_every_step():
    """Fifteen clients, one gone at each step; nobody waits for a deadline, since the lines are broken."""
    room = Room(15)
    leaves = dict(enumerate(MASKED_STEPS, start=3))
    task = asyncio.create_task(room.play(leaves))
    for client, step in leaves.items():
        await until(lambda client=client: not room.lines.is_connected(site(client)) and room.heard[client])
        await until(lambda step=step: room.driver.step == step)
        while room.driver.step == step and not task.done():
            room.pass_time(3.1)  # reconnect_s, far below the deadline
            await asyncio.sleep(0)
    end, last = await task
    assert isinstance(end, Completed), end
    assert end.survivors == tuple(c for c in range(15) if c not in {3, 4, 5})
    assert end.total.tolist() == room.sum_of(end.survivors)
    events = await logged(room.driver)
    dropped = {(e.client, e.step) for e in events if e.kind == EventKind.DROPPED}
    assert dropped == {(f"site-{client:04}", step) for client, step in leaves.items()}
    assert sum(isinstance(body, RoundClosed) for body in last) == 10


async def test_a_client_that_is_connected_but_silent_is_waited_for_until_the_deadline():
    room = Room(5)
    *lines, silent = room.connect(*range(5))
    others = [asyncio.create_task(room.attend(line)) for line in lines]
    end = asyncio.create_task(room.driver.run())
    await until(lambda: room.driver._stand.phase.awaited == {4})
    room.pass_time(9.9)
    for _ in range(20):
        await asyncio.sleep(0)
    assert room.driver.step == Step.ADVERTISE_KEYS
    room.pass_time(0.2)
    async with asyncio.timeout(20):
        assert (await end).survivors == (0, 1, 2, 3)
        await asyncio.gather(*others)
    assert isinstance((await silent.receive()).body, RoundOpened)
    events = await logged(room.driver)
    assert [e.detail for e in events if e.kind == EventKind.DROPPED] == ["no answer in time"]


async def test_a_client_comes_back_and_goes_on_at_the_current_step():
    room = Room(4)
    lines = room.connect(*range(4))
    end = asyncio.create_task(room.driver.run())
    others = [asyncio.create_task(room.attend(lines[c])) for c in (0, 1, 2)]
    await room.answer(3, room.players[3].react(await room.hears(lines[3], RoundOpened)))
    await room.hears(lines[3], AdvertList)
    room.lines.disconnect(lines[3])
    await until(lambda: room.driver._stand.phase.awaited == {3})
    room.pass_time(2.9)
    back = asyncio.create_task(room.attend(room.come_back(3)))
    async with asyncio.timeout(20):
        assert (await end).survivors == (0, 1, 2, 3)
        assert await back == RoundClosed((0, 1, 2, 3), result_shared=True)
        await asyncio.gather(*others)
    assert room.heard[3] == [*list(STEP_OF)[1:], RoundClosed]


async def test_a_client_that_comes_back_too_late_is_told():
    room = Room(4)
    lines = room.connect(*range(4))
    end = asyncio.create_task(room.driver.run())
    others = [asyncio.create_task(room.attend(lines[c])) for c in (0, 1)]
    silent = asyncio.create_task(room.attend(lines[2], Step.CONSISTENCY_CHECK))
    opened = await room.hears(lines[3], RoundOpened)
    await room.answer(3, room.players[3].react(opened))
    listed = await room.hears(lines[3], AdvertList)
    room.lines.disconnect(lines[3])
    await until(lambda: room.driver._stand.phase.awaited == {3})
    room.pass_time(3.1)
    await silent
    returned = room.come_back(3)
    assert await room.hears(returned, Excluded) == Excluded(
        "round 1 went on without this client: its answer did not arrive in time"
    )
    await room.answer(3, room.players[3].react(listed))  # the straggler's dealing is not an error, only late
    assert isinstance(await room.hears(returned, Excluded), Excluded)
    while not end.done():
        room.pass_time(3.1)
        await asyncio.sleep(0)
    await asyncio.gather(*others)
    assert end.result() == Failed(Step.CONSISTENCY_CHECK, "consistency check: 2 signatures, need 3")


async def test_a_failed_round_tells_everybody_why():
    room = Room(4)
    lines = room.connect(*range(4))
    end = asyncio.create_task(room.driver.run())
    stay = [asyncio.create_task(room.attend(lines[c])) for c in (0, 3)]
    await asyncio.gather(*(room.attend(lines[c], Step.SHARE_KEYS) for c in (1, 2)))
    await until(lambda: room.driver._stand.phase.awaited == {1, 2})
    room.pass_time(3.1)
    await until(lambda: room.driver._stand.phase.awaited == {1, 2})
    room.pass_time(7.0)
    async with asyncio.timeout(20):
        last = await asyncio.gather(*stay)
    assert await end == Failed(Step.SHARE_KEYS, "share keys: 2 clients, need 3")
    assert last == [RoundFailed("share keys: 2 clients, need 3")] * 2
    events = await logged(room.driver)
    assert (events[-1].kind, events[-1].detail) == (EventKind.FAILED, "share keys: 2 clients, need 3")
    returned = room.come_back(1)
    assert isinstance(await room.hears(returned, RoundFailed), RoundFailed)


async def test_a_withdrawal_is_not_waited_for():
    room = Room(4)
    lines = room.connect(*range(4))
    end = asyncio.create_task(room.driver.run())
    others = [asyncio.create_task(room.attend(lines[c])) for c in (0, 1, 2)]
    await room.hears(lines[3], RoundOpened)
    await room.driver.deliver(3, ClientMessage(1, Withdrawal("the model is not ours")))
    async with asyncio.timeout(20):
        assert (await end).survivors == (0, 1, 2)
        await asyncio.gather(*others)
    events = await logged(room.driver)
    assert [(e.client, e.detail) for e in events if e.kind == EventKind.WITHDREW] == [
        ("site-0003", "the model is not ours")
    ]
    assert not [e for e in events if e.kind == EventKind.DROPPED]


async def test_duplicates_are_ignored_and_lies_are_refused_and_logged():
    room = Room(4)
    (line,) = room.connect(0)
    run = asyncio.create_task(room.driver.run())
    opened = await room.hears(line, RoundOpened)
    (advert,) = room.players[0].react(opened)
    with pytest.raises(OutOfTurn, match="client 0 sent Unmasking, which belongs to another step"):
        await room.driver.deliver(0, ClientMessage(1, Unmasking((), ())))
    with pytest.raises(MessageError, match="client 0 sent Join in the middle of a round"):
        await room.driver.deliver(0, ClientMessage(1, Join(1, 1, "sepsis")))
    with pytest.raises(MessageError, match="not signed by it for round 1"):
        await room.driver.deliver(0, ClientMessage(1, dataclasses.replace(advert, signature=bytes(64))))
    await room.driver.deliver(0, ClientMessage(1, advert))
    await room.driver.deliver(0, ClientMessage(1, advert))
    (other,) = room.players[0].react(opened)
    with pytest.raises(MessageError, match="client 0 answered twice, differently"):
        await room.driver.deliver(0, ClientMessage(1, other))
    room.driver.end_unexpectedly("stop")
    room.driver.tell()
    run.cancel()
    events = await logged(room.driver)
    assert sum(e.kind == EventKind.ANSWERED for e in events) == 1
    assert len([e for e in events if e.kind == EventKind.REFUSED]) == 3


async def test_another_round_is_over():
    room = Room(4)
    (line,) = room.connect(0)
    await room.driver.deliver(0, ClientMessage(7, Advert(*[bytes(32)] * 4, bytes(64))))
    assert (await room.hears(line, Excluded)).reason == "round 7 is over"


async def test_uploads_belong_to_their_step_and_round():
    room = Room(4)
    header = UploadHeader("sepsis", 1, 1, (), bytes(16))
    with pytest.raises(OutOfTurn, match="client 0: round 1 takes no input now"):
        await room.driver.open_upload(0, header)
    task = asyncio.create_task(room.play({}))
    await until(lambda: room.driver.step == Step.MASKED_INPUT)
    with pytest.raises(OutOfTurn, match="client 0: round 2 takes no input now"):
        await room.driver.open_upload(0, dataclasses.replace(header, round=2))
    with pytest.raises(MessageError, match="announces 1 bytes"):
        await room.driver.open_upload(0, header)
    await task


async def test_a_round_that_is_ended_destroys_what_is_half_arrived():
    room = Room(4, entries=600_000)
    lines = room.connect(*range(4))
    run = asyncio.create_task(room.driver.run())
    others = [asyncio.create_task(room.attend(line, Step.MASKED_INPUT)) for line in lines[:3]]
    for kind in (RoundOpened, AdvertList):
        await room.answer(3, room.players[3].react(await room.hears(lines[3], kind)))
    header, first, last = room.players[3].react(await room.hears(lines[3], ShareList))
    phase, upload = await room.driver.open_upload(3, header)
    room.driver.receive(phase, upload, first)
    spool = room.driver._setting.spool
    assert spool.held_bytes == len(first.data)
    room.driver.end_unexpectedly("stop")
    room.driver.tell()
    assert spool.held_bytes == 0
    with pytest.raises(OutOfTurn, match="client 3: this step of the round is over"):
        room.driver.receive(phase, upload, last)
    with pytest.raises(OutOfTurn, match="client 3: round 1 takes no input now"):
        await room.driver.open_upload(3, header)
    run.cancel()
    await asyncio.gather(run, *others, return_exceptions=True)


async def test_a_complaint_is_logged_with_both_names():
    room = Room(4)
    lines = room.connect(*range(4))
    end = asyncio.create_task(room.driver.run())
    others = [asyncio.create_task(room.attend(lines[c])) for c in (0, 1, 2)]
    for kind in (RoundOpened, AdvertList):
        await room.answer(3, room.players[3].react(await room.hears(lines[3], kind)))
    shares = await room.hears(lines[3], ShareList)
    header, *chunks = room.players[3].react(shares)
    complaint = Complaint(1, shares.envelopes[1].envelope.ciphertext)
    await room.answer(3, (dataclasses.replace(header, complaints=(complaint,)), *chunks))
    rest = asyncio.create_task(room.attend(lines[3]))
    async with asyncio.timeout(20):
        await asyncio.gather(end, rest, *others)
    events = await logged(room.driver)
    assert [(e.client, e.detail) for e in events if e.kind == EventKind.COMPLAINT] == [
        ("site-0003", "the share of site-0001 does not decrypt: dealer or holder")
    ]


async def test_a_full_round_has_no_room():
    room = Room(4, clients_max=2)
    lines = room.connect(*range(4))
    run = asyncio.create_task(room.driver.run())
    for client in range(3):
        (advert,) = room.players[client].react(await room.hears(lines[client], RoundOpened))
        message = ClientMessage(1, advert)
        if client == 2:
            with pytest.raises(Overloaded, match="its sum holds at most 2 clients"):
                await room.driver.deliver(client, message)
        else:
            await room.driver.deliver(client, message)
    run.cancel()


async def test_the_server_stops_in_the_middle():
    room = Room(4)
    (line,) = room.connect(0)
    run = asyncio.create_task(room.driver.run())
    await room.answer(0, room.players[0].react(await room.hears(line, RoundOpened)))
    run.cancel()
    room.driver.end_unexpectedly("the server stopped in this step")
    room.driver.tell()
    assert (await room.hears(line, RoundFailed)).reason == "the server stopped in this step"
    room.driver.end_unexpectedly("again")
    room.driver.tell()
    assert [e.detail for e in await logged(room.driver) if e.kind == EventKind.FAILED] == [
        "the server stopped in this step"
    ]


async def test_an_answer_that_arrives_while_the_round_ends_does_not_reopen_it():
    """A message that waited for its turn through the last step is not an answer, and not an event."""
    room = Room(4)
    (line,) = room.connect(0)
    run = asyncio.create_task(room.driver.run())
    (advert,) = room.players[0].react(await room.hears(line, RoundOpened))
    async with room.driver._turn:
        late = asyncio.create_task(room.driver.deliver(0, ClientMessage(1, advert)))
        await asyncio.sleep(0)
        room.driver.end_unexpectedly("over")
        room.driver.tell()
    await late
    run.cancel()
    assert not room.driver._stand.phase.answers
    assert [event.kind for event in await logged(room.driver)] == [EventKind.STEP, EventKind.FAILED]


async def test_a_stream_whose_place_a_newer_one_took_takes_nothing_back(monkeypatch):
    """Both have come to the end of one upload; the older one's words reach the disk last."""
    room, refusals = Room(3, SlowRecords), []
    answer, arrivals = room.answer, room.records.arrivals

    async def twice(client, bodies):
        if client or not isinstance(bodies[0], UploadHeader):
            if isinstance(bodies[0], UploadHeader):
                await until(lambda: refusals)
            await answer(client, bodies)
            return
        older = await room.driver.open_upload(client, bodies[0])
        for chunk in bodies[1:]:
            older[0].receive(older[1], chunk)
        late = asyncio.create_task(room.driver.close_upload(*older))
        await until(lambda: arrivals)
        await room.driver.close_upload(*await room.driver.open_upload(client, bodies[0]))
        room.records.stuck.set()
        refusals.extend(await asyncio.gather(late, return_exceptions=True))

    monkeypatch.setattr(room, "answer", twice)
    end, _ = await room.play({})
    assert isinstance(end, Completed)
    assert end.total.tolist() == room.sum_of(range(3))
    assert [type(refusal) for refusal in refusals] == [OutOfTurn]
    assert room.records.taken_back == []


async def test_nobody_hears_of_a_round_before_its_terms_are_written_down():
    room = Room(3)
    (line,) = room.connect(0)
    room.driver.greet(0)
    assert line._outbox.empty()


async def test_nobody_hears_how_a_round_ended_before_that_is_written_down():
    room, written = Room(3), asyncio.Event()
    ends = []

    async def write(end):
        ends.append(end)
        await written.wait()

    room.driver._ended = write
    playing = asyncio.create_task(room.play({}))
    await until(lambda: ends)
    late = room.come_back(0)  # in the midst of it
    await room.driver.deliver(0, ClientMessage(room.driver.round, Withdrawal("asks again")))
    for _ in range(20):
        await asyncio.sleep(0)
    assert late._outbox.empty()
    assert not playing.done()
    written.set()
    assert isinstance((await late.receive()).body, RoundClosed)
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)
