"""A participant that lies on its control stream: it is named, the others' round goes on, and the server lives."""

from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from aggregator.crypto import signing
from aggregator.errors import MessageError, OutOfTurn
from aggregator.protocol import commitments
from aggregator.protocol.cohort import freeze
from aggregator.protocol.context import RoundTerms
from aggregator.wire.messages import (
    Advert,
    AdvertList,
    ClientMessage,
    Dealing,
    Excluded,
    Join,
    RevealedShare,
    RoundOpened,
    SurvivorSignature,
    Unmasking,
    Welcome,
)
from tests.consortium import Consortium
from tests.loopback import BRISK, check_mean, hub, offers, parameters

N, CHEAT = 4, 3
LOW_ORDER = (1).to_bytes(32, "little")


class Lying:
    """A transport whose client says something else than its session; it knows what an insider knows."""

    def __init__(self, inner, forge):
        self.inner, self.forge = inner, forge
        self.upload, self.fetch_result = inner.upload, inner.fetch_result
        self.key = Consortium.of(N).signing_keys[CHEAT]

    @asynccontextmanager
    async def control(self):
        async with self.inner.control() as stream:
            self.stream = stream
            yield self

    async def send(self, message):
        for body in self.forge(self, message.body):
            await self.stream.send(ClientMessage(message.round, body))

    async def receive(self):
        message = await self.stream.receive()
        if isinstance(message.body, RoundOpened):
            self.terms = RoundTerms.from_message(message.body.terms)
        if isinstance(message.body, AdvertList):
            self.cohort = freeze(self.terms, [(item.client, item.hash) for item in message.body.listed])
        return message

    def signed_advert(self, advert):
        said = commitments.advert_fields(advert)
        signature = signing.sign(self.key, commitments.ADVERT, self.terms.ctx0, CHEAT, *said)
        return replace(advert, signature=signature)

    def signed_dealing(self, envelopes):
        root = commitments.dealing_root(self.cohort.holders(CHEAT), envelopes)
        signature = signing.sign(self.key, commitments.DEALING, self.cohort.ctx1, CHEAT, root)
        return Dealing(envelopes, signature)


def cheat(kind, forge):
    """Say something else in place of one kind of message."""

    def forged(liar, body):
        return forge(liar, body) if isinstance(body, kind) else (body,)

    return lambda inner: Lying(inner, forged)


def flipped(data):
    return bytes([data[0] ^ 1]) + data[1:]


CHEATS = {
    "an advert that is not signed": (
        cheat(Advert, lambda _, b: [replace(b, nonce=bytes(32))]),
        MessageError,
        "the advert of client 3 is not signed by it for round",
    ),
    "a mask key of low order": (
        cheat(Advert, lambda liar, b: [liar.signed_advert(replace(b, mask_key=LOW_ORDER))]),
        MessageError,
        "low-order point",
    ),
    "a share key of low order": (
        cheat(Advert, lambda liar, b: [liar.signed_advert(replace(b, share_key=bytes(32)))]),
        MessageError,
        "low-order point",
    ),
    "a message of a later step": (
        cheat(Advert, lambda _, b: [SurvivorSignature(bytes(64))]),
        OutOfTurn,
        "advertise_keys: client 3 sent SurvivorSignature, which belongs to another step",
    ),
    "Join in the middle": (
        cheat(Advert, lambda _, b: [Join(1, 1, "sepsis")]),
        MessageError,
        "client 3 sent Join in the middle of a round",
    ),
    "a dealing for too few holders": (
        cheat(Dealing, lambda liar, b: [replace(b, envelopes=b.envelopes[1:])]),
        MessageError,
        "client 3 dealt 3 envelopes to 4 holders",
    ),
    "a dealing that is not signed": (
        cheat(Dealing, lambda _, b: [replace(b, signature=flipped(b.signature))]),
        MessageError,
        "the shares of client 3 are not signed by it",
    ),
    "a share of a wrong length": (
        cheat(
            Dealing, lambda liar, b: [liar.signed_dealing((replace(b.envelopes[0], ciphertext=b"x"), *b.envelopes[1:]))]
        ),
        MessageError,
        "client 3: the share for holder 0 has a wrong length",
    ),
    "a signature over other survivors": (
        cheat(SurvivorSignature, lambda _, b: [SurvivorSignature(flipped(b.signature))]),
        MessageError,
        "client 3 signed other survivors than it was shown",
    ),
    "a share that no dealer dealt": (
        cheat(Unmasking, lambda _, b: [forged_share(b, 0)]),
        MessageError,
        "client 3 gave a self seed share that dealer 0 did not deal",
    ),
    "both shares of one client": (
        cheat(Unmasking, lambda _, b: [replace(b, mask_key_shares=(b.self_seed_shares[0],))]),
        MessageError,
        "client 3 gave a mask key share of client 0 that was not asked for",
    ),
}


def forged_share(body, client):
    shares = {item.client: item.share for item in body.self_seed_shares} | {client: bytes(32)}
    return replace(body, self_seed_shares=tuple(RevealedShare(c, shares[c]) for c in sorted(shares)))


@pytest.mark.parametrize("lie", CHEATS)
async def test_a_lie_is_named_and_the_round_goes_on_without_the_liar(tmp_path, lie):
    wrap, error, named = CHEATS[lie]
    offered, spec = offers(N), parameters()
    async with hub(tmp_path, N) as h:
        await h.create(spec)
        run = await h.run_round(offered, how={CHEAT: {"wrap": wrap}})
        assert type(run.results[CHEAT]) is error, run.results[CHEAT]
        assert named in str(run.results[CHEAT])
        refusals = [event for event in run.events if event.kind == "refused"]
        assert [event.client for event in refusals] == ["site-0003"] * (lie != "Join in the middle")
        summed = len(run.operator.participants)
        assert summed == (N if "share that" in lie or "signature over" in lie or "both" in lie else N - 1)
        run.results[CHEAT] = run.operator
        check_mean(run, offered, range(summed), spec.ring_bits)
        again = await h.run_round(offered, base=run.operator.mean)
        check_mean(again, offered, range(N), spec.ring_bits)


async def test_a_duplicate_is_ignored_and_a_second_answer_is_refused(tmp_path):
    """The advert twice, then another one, validly signed; the step is still open, since site 0 comes last."""
    said = []

    def forge(liar, body):
        if isinstance(body, Advert):
            said.append(liar.signed_advert(replace(body, nonce=bytes(32))))
            return body, body, said[0]
        return (body,)

    offered, spec = offers(N), parameters()
    async with hub(tmp_path, N) as h:
        await h.create(spec)
        number = await h.operator.start_round("sepsis")
        async with h.join(0) as last:
            with pytest.raises(MessageError, match="advertise_keys: client 3 answered twice, differently"):
                async with h.join(CHEAT, wrap=lambda inner: Lying(inner, forge)) as session:
                    await session.contribute(offered[CHEAT][0], weight=1)
            assert said
            assert last.task == "sepsis"
        events = h.operator.watch("sepsis", number)
        seen = [await anext(events) for _ in range(3)]
        assert [(event.kind, event.client) for event in seen[1:]] == [
            ("answered", "site-0003"),
            ("refused", "site-0003"),
        ]


async def test_a_message_for_another_round_is_told_that_it_is_over(tmp_path):
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        number = await h.operator.start_round("sepsis")
        heard = []
        async with h.join(0, wrap=lambda inner: inner) as session:
            stream = session._line._stream
            await stream.send(ClientMessage(number + 1, SurvivorSignature(bytes(64))))
            while not heard or not isinstance(heard[-1], Excluded):
                message = await session._line.receive()
                heard.append(message.body)
        assert [type(body) for body in heard] == [Welcome, RoundOpened, Excluded]
        assert heard[-1].reason == f"round {number + 1} is over"


async def test_a_message_before_any_round(tmp_path):
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        async with h.join(0) as session:
            await session._line._stream.send(ClientMessage(1, SurvivorSignature(bytes(64))))
            with pytest.raises(OutOfTurn, match="task sepsis has no round yet"):
                await session.contribute({"x": [0.0] * 4}, weight=1)


async def test_a_share_that_does_not_decrypt_is_told_to_the_operator_with_dealer_and_holder(tmp_path):
    """Dealer 3 seals garbage for holder 1, and signs it; everybody's input still counts."""

    def forge(liar, body):
        if not isinstance(body, Dealing):
            return (body,)
        bad = replace(body.envelopes[1], ciphertext=flipped(body.envelopes[1].ciphertext))
        return (liar.signed_dealing((body.envelopes[0], bad, *body.envelopes[2:])),)

    offered, spec = offers(N), parameters()
    async with hub(tmp_path, N) as h:
        await h.create(spec, BRISK)
        run = await h.run_round(offered, how={CHEAT: {"wrap": lambda inner: Lying(inner, forge)}})
    check_mean(run, offered, range(N), spec.ring_bits)
    complaints = [(event.client, event.step, event.detail) for event in run.events if event.kind == "complaint"]
    assert complaints == [
        ("site-0001", "masked_input", "the share of site-0003 does not decrypt: dealer or holder"),
    ]
