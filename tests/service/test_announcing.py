"""Large announcements go out in turns; no clock: a turn lasts until the site answers, or 0 s."""

import asyncio

import pytest

from aggregator.service.announcing import SMALL_BYTES, Announcing, size_of
from aggregator.wire.codec import encode
from aggregator.wire.messages import (
    Advert,
    AdvertList,
    Envelope,
    ListedAdvert,
    NamedAdvert,
    ReceivedEnvelope,
    RoundClosed,
    RoundOpened,
    ServerMessage,
    ShareList,
)
from tests.consortium import Consortium
from tests.harness import parameters
from tests.loopback import TOO_LONG_S, until

ADVERT = Advert(*(bytes(32) for _ in range(4)), bytes(64))
ENVELOPE = Envelope(bytes(80), bytes(32), bytes(32))
LISTED = tuple(ListedAdvert(client, bytes(32)) for client in range(1_000))
ADVERTS = AdvertList(LISTED, tuple(NamedAdvert(client, ADVERT) for client in range(132)))
PROOF = tuple(bytes(32) for _ in range(8))
SHARES = ShareList(
    tuple(range(1_000)),
    tuple(ReceivedEnvelope(dealer, ENVELOPE, bytes(32), bytes(64), PROOF) for dealer in range(132)),
)
LONG_S = 3_600.0


def opened(roster_bytes: int) -> RoundOpened:
    terms = Consortium.of(3).terms(parameters(3))
    return RoundOpened(terms.to_message(), bytes(roster_bytes))


@pytest.mark.parametrize("body", [opened(900_000), ADVERTS, SHARES], ids=lambda body: type(body).__name__)
def test_sizes_are_known_before_anything_is_encoded(body) -> None:
    assert 0.8 < size_of(body) / len(encode(ServerMessage(1, body))) < 1.25


async def send(announcing: Announcing, site: str, body, sent: list[str]) -> None:
    async with announcing.turn("task", site, body):
        sent.append(site)


async def test_as_many_as_there_is_room_for_and_the_next_one_when_one_has_answered() -> None:
    announcing, sent, body = Announcing(2_000_000, LONG_S), [], opened(900_000)
    async with asyncio.timeout(TOO_LONG_S), asyncio.TaskGroup() as group:
        for site in "abcd":
            group.create_task(send(announcing, site, body, sent))
        await until(lambda: len(sent) == 2)
        for answers, then in (("b", "abc"), ("a", "abcd")):
            announcing.answered("task", answers)
            await until(lambda wanted=then: "".join(sent) == wanted)
        for site in "cd":
            announcing.answered("task", site)


async def test_who_answers_nothing_holds_its_turn_for_a_moment_only() -> None:
    announcing, sent = Announcing(1, turn_s=0.0), []
    async with asyncio.timeout(TOO_LONG_S), asyncio.TaskGroup() as group:
        for site in "abc":
            group.create_task(send(announcing, site, opened(900_000), sent))
    assert sent == ["a", "b", "c"]


async def test_small_ones_wait_for_nobody() -> None:
    announcing, sent = Announcing(1, LONG_S), []
    async with asyncio.timeout(TOO_LONG_S), asyncio.TaskGroup() as group:
        group.create_task(send(announcing, "a", opened(900_000), sent))
        await until(lambda: sent == ["a"])
        for site in "bcd":
            await send(announcing, site, RoundClosed((1, 2), result_shared=True), sent)
        await send(announcing, "e", opened(SMALL_BYTES - 1), sent)
        announcing.answered("task", "a")
    assert sent == ["a", "b", "c", "d", "e"]


async def test_a_line_that_breaks_gives_its_turn_back() -> None:
    announcing, sent, body = Announcing(1, LONG_S), [], opened(900_000)
    broken = asyncio.create_task(send(announcing, "a", body, sent))
    await until(lambda: sent == ["a"])
    async with asyncio.timeout(TOO_LONG_S), asyncio.TaskGroup() as group:
        group.create_task(send(announcing, "b", body, sent))
        broken.cancel()
        await until(lambda: sent == ["a", "b"])
        announcing.answered("task", "b")
