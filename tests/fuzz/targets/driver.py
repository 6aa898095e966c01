"""Rounds of every mode, in which members do what the bytes say: what they should, or anything else.

Only our errors come out of the driver; a round ends once its deadlines have passed; a sum is that of its survivors;
nothing that was staged stays; a hostile member fills no log (all in `tests.fuzz.stage`).
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final
from unittest import mock

from aggregator.errors import SangamError
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.wire import chunks, codec
from aggregator.wire.messages import CiphertextsRequest, ClientMessage, UploadHeader, UploadMessage, Withdrawal
from aggregator.wire.operator_messages import Opening
from tests import parties
from tests.consortium import TASK, drbg
from tests.fuzz.draws import Draws
from tests.fuzz.loop import Loop
from tests.fuzz.stage import Stage
from tests.fuzz.target import Target
from tests.harness import parameters

CLIENTS: Final = 4
CHUNK_BYTES: Final = 64  # so that a short vector is an upload of three chunks
ACTS_MAX: Final = 120
SPECS: Final[tuple[Parameters, ...]] = (
    parameters(CLIENTS, 60),
    parameters(3, 60),  # the fourth finds the round full
    parameters(CLIENTS, 4, mode=Mode.LATTICE),
    *(parties.parameters((60,), parties=who) for who in (parties.FROZEN, parties.ONE_SHOT, parties.TRUST_SERVER)),
)
OPENINGS: Final = (Opening(), Opening(), Opening(enough=3, gather_s=5.0), Opening(enough=3, gather_s=5.0, sample=3))
SECONDS: Final = (
    0.125,
    2.0,
    3.125,
    10.125,
    30.0,
)  # sums of these are exact: nobody wakes a rounding too early, for ever


def run(data: bytes) -> None:
    """A spec, an opening, whether all ends well, who is there; then acts until the bytes are used up."""
    with mock.patch.object(chunks, "CHUNK_BYTES_MAX", CHUNK_BYTES):
        loop = Loop()
        try:
            loop.run_until_complete(_play(Draws(data), loop))
        finally:
            loop.end()


async def _play(draws: Draws, loop: Loop) -> None:
    spec, opening = SPECS[draws.below(len(SPECS))], OPENINGS[draws.below(len(OPENINGS))]
    honest, present = draws.below(2) == 0, draws.below(256)
    act = _Acts(Stage(spec, CLIENTS, opening, loop), draws)
    for place, member in enumerate(act.stage.everybody):
        if not present >> place & 1:
            act.stage.connect(member)
    act.stage.start_round()
    for _ in range(ACTS_MAX):
        await act.stage.quiet()
        if not draws.left:
            break
        await ACTS[draws.below(len(ACTS))](act)
    await act.stage.finish(honest)


class _Acts:
    """What members, operator and time may do; who and how is drawn."""

    def __init__(self, stage: Stage, draws: Draws) -> None:
        self.stage = stage
        self.draws = draws

    def _member(self) -> int:
        return self.stage.everybody[self.draws.below(len(self.stage.everybody))]

    def _number(self) -> int:
        return self.stage.task.history.started

    async def everybody(self) -> None:
        """All answer what they have heard."""
        await self.stage.everybody_plays()

    async def one(self) -> None:
        """One answers, beside whatever else goes on."""
        self.stage.spawn(self.stage.play(self._member()))

    async def thread(self) -> None:
        """A thread gets on."""
        self.stage.loop.held.step()

    async def threads(self) -> None:
        """All do."""
        await self.stage.work()

    async def connect(self) -> None:
        """Somebody comes, or comes again."""
        self.stage.connect(self._member())

    async def disconnect(self) -> None:
        """A line breaks."""
        self.stage.disconnect(self._member())

    async def damage(self) -> None:
        """One answers with bits flipped."""
        await self._send(self._member(), self.draws.damaged)

    async def other(self) -> None:
        """One gives an answer as another's, who keeps it."""
        member, other = self._member(), self._member()
        await self._send(member, lambda raw: raw, heir=other)

    async def stale(self) -> None:
        """One answers to another round."""
        shift = self.draws.below(5) - 2
        await self._send(self._member(), lambda raw: _renumbered(raw, shift))

    async def repeat(self) -> None:
        """Something that was said is said again, by anybody."""
        if self.stage.said:
            raw = self.stage.said[self.draws.below(len(self.stage.said))]
            self.stage.spawn(self.stage.deliver(self._member(), raw))

    async def withdraw(self) -> None:
        """One does not want any more."""
        raw = codec.encode(ClientMessage(max(self._number(), 1), Withdrawal("not ours")))
        self.stage.spawn(self.stage.deliver(self._member(), raw))

    async def noise(self) -> None:
        """Any bytes."""
        member = self._member()
        self.stage.spawn(self.stage.deliver(member, self.draws.take(self.draws.below(40))))

    async def open(self) -> None:
        """An upload begins, perhaps under a header that is not quite right; it stays open."""
        member, how = self._member(), self.draws.below(4)
        parts = self._upload_of(self._member() if how == 1 else member)
        if not parts:
            return
        header: UploadHeader = parts[0]
        if how == 2:
            header = replace(header, upload_id=self.draws.take(1) * 16)
        raw = codec.encode(UploadMessage(header))
        self.stage.spawn(self._opened(member, self.draws.damaged(raw) if how == 3 else raw))

    async def _opened(self, member: int, raw: bytes) -> None:
        await self.stage.open(member, raw)

    async def chunk(self) -> None:
        """A chunk over an open stream: the next one, another, another member's, or a damaged one."""
        member, how = self._member(), self.draws.below(5)
        stream, parts = self.stage.streams.get(member), self._upload_of(self._member() if how == 1 else member)
        if stream is None or not parts:
            return
        place = self.draws.below(len(parts)) if how == 2 else min(1 + stream.upload.chunks, len(parts) - 1)
        raw = codec.encode(UploadMessage(parts[place]))
        self.stage.send(member, self.draws.damaged(raw) if how == 3 else raw)

    async def close(self) -> None:
        """A stream ends."""
        self.stage.spawn(self.stage.close(self._member()))

    async def upload(self) -> None:
        """One uploads in one go, and something is wrong with one chunk, or with the end."""
        member, parts = self._member(), ()
        parts = self._upload_of(member)
        if parts:
            wrong, how = self.draws.below(len(parts)), self.draws.below(3)
            spoilt = self.draws.damaged(codec.encode(UploadMessage(parts[wrong]))) if wrong else b""
            self.stage.spawn(self._uploaded(member, parts, wrong, (spoilt, how)))

    async def _uploaded(self, member: int, parts: tuple[Any, ...], wrong: int, act: tuple[bytes, int]) -> None:
        stream = await self.stage.open(member, codec.encode(UploadMessage(parts[0])))
        if stream is None:
            return
        for place in range(1 + stream.upload.chunks, len(parts)):
            if place == wrong and act[1] == 0:
                return  # it breaks here
            raw = act[0] if place == wrong else codec.encode(UploadMessage(parts[place]))
            if not self.stage.send(member, raw):
                return
        await self.stage.close(member)

    async def cut(self) -> None:
        """A stream breaks."""
        self.stage.streams.pop(self._member(), None)

    async def wait(self) -> None:
        """Time passes."""
        self.stage.pass_time(SECONDS[self.draws.below(len(SECONDS))])

    async def abort(self) -> None:
        """The operator ends the round."""
        if self.draws.below(4) == 0:
            await self.stage.abort()

    async def start(self) -> None:
        """The operator starts the next one."""
        if self._number() < 3:
            self.stage.start_round()

    async def fetch(self) -> None:
        """Anybody asks for ciphertexts."""
        whole, client = self.draws.below(2) == 0, self.draws.below(CLIENTS + 1)
        wanted = CiphertextsRequest(TASK, max(self._number(), 1), whole_sum=whole, client=client)
        with suppress(SangamError):
            self.stage.driver(wanted.round).chunk(self._member(), wanted, self.draws.below(3))

    async def _send(self, member: int, change: Any, heir: int | None = None) -> None:
        """A member's answer, changed, over its line or an heir's; an upload goes on being its own."""
        if not self.stage.heard[member]:
            return
        message = self.stage.heard[member][0]
        answer = self.stage.answer(member)
        self.stage.heard[member].appendleft(message)
        if answer and not isinstance(answer[0], UploadHeader):
            raw = change(codec.encode(ClientMessage(message.round, answer[0])))
            self.stage.spawn(self.stage.deliver(member if heir is None else heir, raw))

    def _upload_of(self, member: int) -> tuple[Any, ...]:
        """What a member would upload now."""
        if not self.stage.heard[member]:
            return ()
        message = self.stage.heard[member][0]
        answer = self.stage.answer(member)
        self.stage.heard[member].appendleft(message)
        return answer if answer and isinstance(answer[0], UploadHeader) else ()


def _renumbered(raw: bytes, shift: int) -> bytes:
    message = codec.decode(ClientMessage, raw)
    return codec.encode(replace(message, round=max(message.round + shift, 0)))


ACTS: Final = (
    *(_Acts.everybody, _Acts.everybody, _Acts.one, _Acts.one, _Acts.one, _Acts.thread, _Acts.threads),
    *(_Acts.connect, _Acts.disconnect, _Acts.damage, _Acts.damage, _Acts.other, _Acts.stale, _Acts.repeat),
    *(_Acts.withdraw, _Acts.noise, _Acts.open, _Acts.open, _Acts.chunk, _Acts.chunk, _Acts.chunk),
    *(_Acts.upload, _Acts.upload, _Acts.close, _Acts.cut, _Acts.wait, _Acts.abort, _Acts.start, _Acts.fetch),
)


def seeds() -> Iterator[bytes]:
    """Each spec: all goes well; the same with acts in between; acts alone."""
    for spec in range(len(SPECS)):
        for opening in range(len(OPENINGS)):
            yield bytes([spec, opening, 0, 0])
            yield bytes([spec, opening, 1, 0]) + bytes(6)
            for honest in range(2):
                acts = drbg("acts", spec, opening, honest)(120)
                yield bytes([spec, opening, honest, 0]) + acts[:60]
                yield bytes([spec, opening, honest, 0, 0, 6, 0, 6]) + acts[60:]


TARGET: Final = Target("driver", run, seeds, bytes_max=400, sequences=True)
