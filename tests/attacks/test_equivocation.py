"""A server, or a colluding client, that shows different clients different keys, adverts, parameters or models."""

import dataclasses

import numpy as np
import pytest

from aggregator.crypto import agreement, signing
from aggregator.errors import Equivocation, MessageError
from aggregator.protocol import commitments, coordinator, pairwise, participant
from aggregator.protocol.context import hash_model
from aggregator.rounds.phase import Completed
from aggregator.wire.messages import Advert, AdvertList, ListedAdvert, NamedAdvert, RoundOpened
from aggregator.wire.vocabulary import Step
from tests.consortium import Consortium, drbg
from tests.harness import Player, parameters, plain_sum, play, ring_words, short_round, tell
from tests.reference import secagg

N = 5
LOW_ORDER = [  # of Curve25519: RFC 7748 section 6.1 asks for the check; the points as listed by libsodium
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.fixture
def advertised():
    """All adverts are in; each client is about to see the list."""
    return short_round(N, until=Step.SHARE_KEYS)


def adverts(outcome):
    """What each client advertised."""
    return {said.client: said.body for said in outcome.transcript if isinstance(said.body, Advert)}


def replace_advert(outcome, me, author, advert, *, listed=True):
    """The list for client `me` with another advert of `author`, and with its hash where the server lies throughout."""
    body, ctx0 = outcome.end.announcement(me), outcome.terms.ctx0
    hashes = {item.client: item.hash for item in body.listed}
    if listed:
        hashes[author] = commitments.advert_hash(ctx0, author, advert)
    shown = {item.client: item.advert for item in body.neighbours} | {author: advert}
    return dataclasses.replace(
        body,
        listed=tuple(ListedAdvert(c, hashes[c]) for c in sorted(hashes)),
        neighbours=tuple(NamedAdvert(c, shown[c]) for c in sorted(shown) if c != me),
    )


def signed_advert(outcome, author, signing_key, label="server", **changes):
    """A fresh advert of `author` under this round's ctx0, signed by whoever holds `signing_key`; never its own."""
    keys = [agreement.generate(drbg(label, i)).public for i in range(2)]
    advert = Advert(*keys, drbg(label, "nonce")(32), drbg(label, "hash")(32), bytes(64))
    advert = dataclasses.replace(advert, **changes)
    said = commitments.advert_fields(advert)
    signature = signing.sign(signing_key, commitments.ADVERT, outcome.terms.ctx0, author, *said)
    return dataclasses.replace(advert, signature=signature)


def test_swapped_keys_within_an_advert(advertised):
    assert tell(advertised, 0, advertised.end.announcement(0), Step.SHARE_KEYS)
    honest = adverts(advertised)[1]
    swapped = dataclasses.replace(honest, mask_key=honest.share_key, share_key=honest.mask_key)
    with pytest.raises(Equivocation, match="advert of client 1 is not the one in the list"):
        advertised.players[0].react(replace_advert(advertised, 0, 1, swapped, listed=False))
    with pytest.raises(Equivocation, match="advert of client 1 is not signed by it for this round"):
        advertised.players[0].react(replace_advert(advertised, 0, 1, swapped))


def test_swapped_keys_between_clients(advertised):
    """Client 2's advert under client 1's name: the signature binds the author."""
    with pytest.raises(Equivocation, match="client 1 is not signed by it"):
        advertised.players[0].react(replace_advert(advertised, 0, 1, adverts(advertised)[2]))


@pytest.mark.parametrize("field", ["mask_key", "share_key", "nonce", "self_seed_hash"])
def test_swapped_keys_for_the_servers_own(advertised, field):
    """The man in the middle: one field of the server's making, everything else as the author signed it."""
    changed = dataclasses.replace(adverts(advertised)[1], **{field: agreement.generate(drbg("server")).public})
    with pytest.raises(Equivocation, match="client 1 is not signed by it"):
        advertised.players[0].react(replace_advert(advertised, 0, 1, changed))


def test_invented_neighbour():
    """Client 4 never came. The server fills its place with keys of its own, signed as well as it can."""
    outcome = short_round(N, stops={4: "advertise_keys"}, until=Step.SHARE_KEYS)
    server_key = Consortium.of(N + 1).signing_keys[N]
    with pytest.raises(Equivocation, match="client 4 is not signed by it"):
        outcome.players[0].react(
            replace_advert(outcome, 0, 4, signed_advert(outcome, 4, server_key)),
        )
    colluder = outcome.players[3].site.signing_key
    with pytest.raises(Equivocation, match="client 4 is not signed by it"):
        outcome.players[0].react(replace_advert(outcome, 0, 4, signed_advert(outcome, 4, colluder)))
    assert outcome.players[0].react(outcome.end.announcement(0))


def test_invented_neighbour_outside_the_graph(advertised):
    """More or fewer neighbours than the list gives are refused before any key is used."""
    body = advertised.end.announcement(0)
    for neighbours in (body.neighbours[1:], (*body.neighbours, NamedAdvert(9, adverts(advertised)[1]))):
        with pytest.raises(Equivocation, match="the adverts received are not those of its neighbours"):
            advertised.players[0].react(dataclasses.replace(body, neighbours=neighbours))
    itself = (NamedAdvert(0, adverts(advertised)[0]), *body.neighbours)
    with pytest.raises(Equivocation, match="the adverts received are not those of its neighbours"):
        advertised.players[0].react(dataclasses.replace(body, neighbours=itself))


def test_advert_without_inclusion_proof(advertised):
    """A second advert that client 3 really signed, but that is not the one in the list."""
    second = signed_advert(advertised, 3, advertised.players[3].site.signing_key)
    with pytest.raises(Equivocation, match="advert of client 3 is not the one in the list"):
        advertised.players[0].react(replace_advert(advertised, 0, 3, second, listed=False))
    assert advertised.players[0].react(replace_advert(advertised, 0, 3, second)), "listed, it is an advert like others"


def test_advert_without_inclusion_proof_of_ones_own(advertised):
    body = advertised.end.announcement(0)
    forged = (ListedAdvert(0, bytes(32)), *body.listed[1:])
    with pytest.raises(Equivocation, match="the advert list does not hold this client's own advert"):
        advertised.players[0].react(dataclasses.replace(body, listed=forged))


def test_advert_equivocation_yields_noise(advertised):
    """Client 4 signs two adverts; the server shows one to 0 and 1, the other to 2 and 3. No share is accepted."""
    second = signed_advert(advertised, 4, advertised.players[4].site.signing_key)
    for me in (2, 3):
        (dealing,) = advertised.players[me].react(replace_advert(advertised, me, 4, second))
        with pytest.raises(MessageError, match=f"shares of client {me} are not signed by it for this round"):
            advertised.end.accept(me, dealing)
    for me in (0, 1):
        assert advertised.end.accept(me, *advertised.players[me].react(advertised.end.announcement(me)))
    contexts = {me: advertised.players[me].states[Step.SHARE_KEYS].cohort.ctx1 for me in range(4)}
    assert contexts[0] == contexts[1] != contexts[2] == contexts[3]


def test_advert_equivocation_yields_noise_if_every_check_were_gone(advertised):
    """ctx1 is in every pair seed and in every keystream: across the two views no mask cancels."""
    second = signed_advert(advertised, 4, advertised.players[4].site.signing_key)
    advertised.players[0].react(advertised.end.announcement(0))
    advertised.players[2].react(replace_advert(advertised, 2, 4, second))
    assert not np.any(masks_left(advertised, 0, 2, same_view=True))
    assert np.all(masks_left(advertised, 0, 2, same_view=False))


def masks_left(outcome, u, v, *, same_view):
    """What two clients' shared masks leave in the sum of their zero vectors, 64 entries mod 2^20."""
    secrets = {c: outcome.players[c].secrets["mask key"] for c in (u, v)}
    left = np.zeros(64, np.uint32)
    for me, other in ((u, v), (v, u)):
        seen = outcome.players[u if same_view else me].states[Step.SHARE_KEYS].cohort.ctx1
        seed = secagg.pair_seed(secrets[me], secagg.public(secrets[other]), seen, me, other)
        own = pairwise.mask_input(np.zeros(64, np.uint32), bytes(32), {}, me, ctx1=seen, ring_bits=20)
        both = pairwise.mask_input(np.zeros(64, np.uint32), bytes(32), {other: seed}, me, ctx1=seen, ring_bits=20)
        left += both - own
    return left % 2**20


def low_order(outcome, field, point):
    """Client 1's own advert but for one key, and signed by it."""
    fields = {f: getattr(adverts(outcome)[1], f) for f in ("mask_key", "share_key", "nonce", "self_seed_hash")}
    return signed_advert(outcome, 1, outcome.players[1].site.signing_key, **{**fields, field: bytes.fromhex(point)})


@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("field", ["mask_key", "share_key"])
def test_low_order_point(advertised, point, field):
    """The server refuses it on receipt: it would stop the client's neighbours."""

    def cheat(step, client, body):
        return low_order(advertised, field, point) if isinstance(body, Advert) and client == 1 else body

    outcome = short_round(N, cheat=cheat)
    assert str(outcome.refusals[1]) == "X25519: the peer's public key is a low-order point"
    assert isinstance(outcome.end, Completed)
    assert outcome.total == plain_sum(outcome, (0, 2, 3, 4))


@pytest.mark.parametrize("point", LOW_ORDER)
def test_low_order_point_that_the_server_lets_pass(advertised, point):
    """A share key stops the neighbours before they deal, a mask key before anything bulk leaves."""
    with pytest.raises(MessageError, match="low-order point"):
        advertised.players[0].react(replace_advert(advertised, 0, 1, low_order(advertised, "share_key", point)))
    for low in (adverts(advertised)[1], low_order(advertised, "mask_key", point)):
        corrupt = advertised.players[1].states
        corrupt[Step.ADVERTISE_KEYS] = dataclasses.replace(corrupt[Step.ADVERTISE_KEYS], advert=low)
        dealings = {
            c: player.react(replace_advert(advertised, c, 1, low))[0] for c, player in advertised.players.items()
        }
        cohort = advertised.players[0].states[Step.SHARE_KEYS].cohort
        shares = coordinator.share_lists(cohort, dealings)[0]
        if low == adverts(advertised)[1]:
            assert advertised.players[0].react(shares)
        else:
            with pytest.raises(MessageError, match="low-order point"):
                advertised.players[0].react(shares)


PARAMETERS = parameters(N)
LOWERED = tuple(dataclasses.replace(tensor, clip=1e-3) for tensor in PARAMETERS.tensors)
DOWNGRADES = {
    "clip": {"parameters": dataclasses.replace(PARAMETERS, clip=1e-3)},
    "clip of a tensor": {"parameters": dataclasses.replace(PARAMETERS, tensors=LOWERED)},
    "scale": {"parameters": dataclasses.replace(PARAMETERS, value_bits=8)},
    "clients_max": {"parameters": dataclasses.replace(PARAMETERS, clients_max=2 * N)},
    "weight_max": {"parameters": dataclasses.replace(PARAMETERS, weight_max=10)},
    "rotation": {"parameters": dataclasses.replace(PARAMETERS, rotate=True)},
    "minimum_cohort": {"parameters": dataclasses.replace(PARAMETERS, minimum_cohort=3)},
    "model": {"model_hash": hash_model({"w": np.ones(3)})},
    "round": {"round": 2},
    "nonce": {"server_nonce": bytes(32)},
    "task": {"task": "stroke"},
}


def split_terms(changes):
    """All of five clients were told the terms, client 4 others: the round as far as the adverts, and 4's advert."""
    outcome = short_round(N, stops={4: "advertise_keys"}, until=Step.SHARE_KEYS)
    consortium = Consortium.of(N)
    terms = dataclasses.replace(outcome.terms, **changes)
    victim = Player(consortium.site(4), ring_words(terms, [4])[4], drbg("client", 4))
    (advert,) = victim.react(RoundOpened(terms.to_message(), consortium.roster.to_bytes()))
    return outcome, victim, advert


@pytest.mark.parametrize("changed", DOWNGRADES)
def test_scale_or_clip_downgrade(changed):
    """A server that tells one client other terms gets an advert that fits nobody's, on either side."""
    outcome, victim, advert = split_terms(DOWNGRADES[changed])
    with pytest.raises(Equivocation, match="client 4 is not signed by it for this round"):
        outcome.players[0].react(replace_advert(outcome, 0, 4, advert))
    ctx0, shown = victim.states[Step.ADVERTISE_KEYS].invited.ctx0, {**adverts(outcome), 4: advert}
    listed = tuple(ListedAdvert(c, commitments.advert_hash(ctx0, c, shown[c])) for c in sorted(shown))
    neighbours = tuple(NamedAdvert(c, shown[c]) for c in range(4))
    with pytest.raises(Equivocation, match="client 0 is not signed by it for this round"):
        victim.react(AdvertList(listed, neighbours))


def test_scale_or_clip_downgrade_control():
    """The same, with nothing changed: the advert fits."""
    outcome, _, advert = split_terms({})
    assert outcome.players[0].react(replace_advert(outcome, 0, 4, advert))


@pytest.mark.parametrize("lower", [{"clip": 1e-3}, {"tensors": LOWERED}])
def test_scale_or_clip_downgrade_is_refused_by_the_servers_own_check(lower):
    def lie(step, client, body):
        if not isinstance(body, RoundOpened) or client != 4:
            return body
        lowered = dataclasses.replace(body.terms.parameters, **lower)
        return dataclasses.replace(body, terms=dataclasses.replace(body.terms, parameters=lowered))

    outcome = short_round(N, lie=lie)
    assert str(outcome.refusals[4]) == "the advert of client 4 is not signed by it for round 1"
    assert isinstance(outcome.end, Completed)
    assert outcome.end.survivors == (0, 1, 2, 3)


def test_different_model_hashes():
    """Pasquini et al. 2022: a model of its own for each victim makes the sum tell of one client. Here it yields noise.

    The masks of two clients whose models differ don't cancel, since ctx0 holds the model's hash and ctx1 holds ctx0.
    """
    models = [{"w": np.ones(3)}, {"w": np.array([1.0, 1.0, np.nextafter(1.0, 2.0)])}]
    assert hash_model(models[0]) != hash_model(models[1])
    consortium = Consortium.of(N)
    terms = [consortium.terms(PARAMETERS, model_hash=hash_model(model)) for model in models]
    assert terms[0].ctx0 != terms[1].ctx0
    words = ring_words(terms[0], range(N))
    honest = play(consortium, terms[0], words)
    assert honest.total == plain_sum(honest, range(N))

    def lie(step, client, body):
        return dataclasses.replace(body, terms=terms[1].to_message()) if isinstance(body, RoundOpened) else body

    def lie_to_one(step, client, body):
        return lie(step, client, body) if client == 2 else body

    split = play(consortium, terms[0], words, lie=lie_to_one)
    assert "client 2 is not signed by it" in str(split.refusals[2])
    assert split.end.survivors == (0, 1, 3, 4)
    alike = play(consortium, terms[0], words, lie=lie, until=Step.SHARE_KEYS)
    assert set(alike.refusals) == set(range(N)), "the server itself is bound to what it showed"


def test_different_model_hashes_yield_noise_if_every_check_were_gone():
    """The same entropy, the same peers, only the model differs: every word of the masks differs."""
    consortium = Consortium.of(N)
    ys = []
    for model in ({"w": np.ones(3)}, {"w": np.zeros(3)}):
        terms = consortium.terms(parameters(N, 64), model_hash=hash_model(model))
        outcome = play(consortium, terms, dict.fromkeys(range(N), np.zeros(66, np.uint32)))
        ys.append(np.array(outcome.masked(0)))
    assert (ys[0] == ys[1]).sum() <= 1
    assert isinstance(outcome.players[0].states[Step.MASKED_INPUT], participant.Masked)
