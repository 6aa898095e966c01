"""Homomorphic clients, key holder and auditor in the hands of their server: they answer, or refuse by name."""

from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from aggregator.errors import SangamError
from aggregator.protocol.parameters import Parameters
from aggregator.wire import codec
from aggregator.wire.messages import Chunk, ServerMessage
from aggregator.wire.operator_messages import Opening
from tests import parties
from tests.consortium import drbg
from tests.fuzz.draws import Draws
from tests.fuzz.loop import Loop
from tests.fuzz.members import Member
from tests.fuzz.stage import Stage
from tests.fuzz.target import Target

CLIENTS: Final = 3
SPEC: Final[Parameters] = parties.parameters()


@dataclass(frozen=True)
class _Asked:
    """What the server said to one member in an honest round, and the member as it was then."""

    raw: bytes
    kind: type
    member: Member


class _Recorded(Stage):
    """A stage that keeps all that is said."""

    asked: list[_Asked]

    def _hear(self, member: int, message: ServerMessage) -> None:
        super()._hear(member, message)
        if self.heard[member] and self.heard[member][-1] is message:
            self.asked.append(_Asked(codec.encode(message), type(message.body), self._member(member, message.round)))


@cache
def _played() -> tuple[_Asked, ...]:
    loop = Loop()
    stage = _Recorded(SPEC, CLIENTS, Opening(), loop)
    stage.asked = []
    try:
        loop.run_until_complete(_play(stage))
    finally:
        loop.end()
    assert stage.task.history.find(1).sum is not None
    return tuple(stage.asked)


async def _play(stage: Stage) -> None:
    for member in stage.everybody:
        stage.connect(member)
    stage.start_round()
    await stage.finish(honest=True)


def run(data: bytes) -> None:
    """A message that the server said, damaged, or any bytes; and the ciphertexts that it shows, if it is asked."""
    draws = Draws(data)
    how, one = draws.below(4), _played()[draws.below(len(_played()))]
    shown = draws.take(2)
    raw = draws.damaged(one.raw) if how else draws.rest()
    member: Any = copy(one.member)
    member._fetch = lambda _: _chunks(shown)
    with suppress(SangamError):
        body = codec.decode(ServerMessage, raw).body
        if type(body) is one.kind:
            assert member.react(body)


def _chunks(shown: bytes) -> Iterator[Chunk]:
    yield Chunk(shown[0] // 200, shown[1:] * (SPEC.upload_plan.payload_bytes + (shown[0] > 250)))


def seeds() -> Iterator[bytes]:
    """Every message of the round, whole and damaged."""
    for which in range(len(_played())):
        yield bytes([1, which, 0, 0, 2]) + drbg("flips", which)(12)
        yield bytes([1, which, 0, 0, 1])


TARGET: Final = Target("parties", run, seeds, share=10)
