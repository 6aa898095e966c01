"""What all clients of a round are told is encoded once; nobody may hear what another round, or list, said."""

from dataclasses import replace

import pytest

from aggregator.errors import MessageError
from aggregator.wire.codec import decode, encode
from aggregator.wire.messages import (
    Advert,
    AdvertList,
    ListedAdvert,
    NamedAdvert,
    RevealedShare,
    RoundClosed,
    RoundOpened,
    ServerMessage,
    Survivors,
    Unmasking,
)
from aggregator.wire.translate import LONG
from tests.consortium import Consortium
from tests.harness import parameters

ADVERT = Advert(*(bytes(32) for _ in range(4)), bytes(64))
EVERYBODY = tuple(range(1_000))


def listed(octet: int, count: int = LONG) -> tuple[ListedAdvert, ...]:
    return tuple(ListedAdvert(client, bytes([octet]) * 32) for client in range(count))


def told(everybody: tuple[ListedAdvert, ...], client: int) -> ServerMessage:
    return ServerMessage(1, AdvertList(everybody, (NamedAdvert(client, ADVERT),)))


def bodies() -> list[object]:
    opened = RoundOpened(Consortium.of(3).terms(parameters(3)).to_message(), b"roster")
    return [opened, Survivors(EVERYBODY, EVERYBODY[:-1]), RoundClosed(EVERYBODY, result_shared=True)]


@pytest.mark.parametrize("body", bodies(), ids=lambda body: type(body).__name__)
def test_one_body_becomes_one_string_of_bytes_for_all(body) -> None:
    first = encode(ServerMessage(7, body))
    assert encode(ServerMessage(7, body)) is first
    other_round = ServerMessage(8, body)
    assert decode(ServerMessage, encode(other_round)) == other_round
    assert decode(ServerMessage, encode(ServerMessage(7, body))).round == 7


def test_another_body_is_another_message() -> None:
    one, two = Survivors((1, 2), (1,)), Survivors((1, 2), (2,))
    for body in (one, two, one, replace(one), two):
        assert decode(ServerMessage, encode(ServerMessage(1, body))).body == body


def test_what_is_refused_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(MessageError, match=r"Survivors\.survivors: not in strictly ascending order"):
            encode(ServerMessage(1, Survivors((1, 2), (2, 1))))


@pytest.mark.parametrize("count", [LONG - 1, LONG, LONG + 1])
def test_a_long_list_is_told_to_all_each_with_its_own_neighbours(count: int) -> None:
    """Two rounds at once, in turn."""
    first, second = listed(1, count), listed(2, count)
    for client in range(3):
        for everybody in (first, second):
            message = told(everybody, client)
            assert decode(ServerMessage, encode(message)) == message
    assert encode(told(first, 1)) == encode(told(listed(1, count), 1))


def test_one_list_in_two_fields_is_in_both() -> None:
    shares = tuple(RevealedShare(client, bytes(32)) for client in range(LONG))
    assert decode(Unmasking, encode(Unmasking(shares, ()))) == Unmasking(shares, ())
    assert decode(Unmasking, encode(Unmasking((), shares))) == Unmasking((), shares)
    assert decode(Unmasking, encode(Unmasking(shares, shares))) == Unmasking(shares, shares)


def test_an_item_of_a_long_list_is_checked() -> None:
    wrong = (*listed(1), ListedAdvert(LONG, b"short"))
    for _ in range(2):
        with pytest.raises(MessageError, match=r"ListedAdvert\.hash: 5 bytes"):
            encode(told(wrong, 1))
