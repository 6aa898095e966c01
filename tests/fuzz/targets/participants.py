"""A client in the hands of its server: whatever it is told in whatever step, it answers or refuses by name."""

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Final

from aggregator.errors import SangamError
from aggregator.wire import codec
from aggregator.wire.messages import (
    AdvertList,
    RoundOpened,
    ServerMessage,
    ShareList,
    SignatureList,
    Survivors,
)
from tests.consortium import drbg
from tests.fuzz.draws import Draws
from tests.fuzz.target import Target
from tests.harness import Outcome, Player, short_round

CLIENTS: Final = 3


@cache
def _played() -> Outcome:
    return short_round(CLIENTS)


def run(data: bytes) -> None:
    """A message that the server said, damaged, or any bytes; to a client that holds the states of all its steps."""
    draws = Draws(data)
    honest = [said.raw for said in _played().transcript if not said.to_server]
    how, which = draws.below(3), draws.below(len(honest))
    raw = draws.damaged(honest[which]) if how else draws.rest()
    with suppress(SangamError):
        body = codec.decode(ServerMessage, raw).body
        if isinstance(body, RoundOpened | AdvertList | ShareList | Survivors | SignatureList):
            assert _player(draws.below(CLIENTS)).react(body)


def _player(client: int) -> Player:
    """One that has played the round, and still holds the states of all its steps."""
    known = _played().players[client]
    player = Player(known.site, known.words, drbg("fuzzed", client))
    player.states = dict(known.states)
    return player


def seeds() -> Iterator[bytes]:
    """Every message of the round, whole and damaged."""
    honest = [said.raw for said in _played().transcript if not said.to_server]
    yield from (bytes([0, 0]) + raw for raw in honest)
    yield from (bytes([1, which, 2]) + drbg("flips", which)(12) for which in range(len(honest)))


TARGET: Final = Target("participants", run, seeds, share=20)
