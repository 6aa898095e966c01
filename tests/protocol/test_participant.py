import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from aggregator.errors import Equivocation, MessageError, NotAdmitted, ParameterError, RoundAborted
from aggregator.protocol import commitments, coordinator, participant
from aggregator.protocol.graph import ThreatModel
from aggregator.protocol.participant import Safeguards
from aggregator.wire.messages import Advert, SignatureList, Survivors
from aggregator.wire.vocabulary import Step
from tests.consortium import Consortium, drbg
from tests.harness import parameters, plain_sum, ring_words, short_round
from tests.reference import hkdf, secagg, shamir

CONSORTIUM = Consortium.of(5)
TERMS = CONSORTIUM.terms(parameters(5))


STRICT = Safeguards()


def enter(terms=TERMS, *, safeguards=STRICT, **changes):
    site = dataclasses.replace(CONSORTIUM.site(1, safeguards), **changes)
    return participant.enter(terms, CONSORTIUM.roster, site)


def test_enter_finds_the_client_and_takes_the_larger_minimum():
    assert (enter().me, enter().minimum, enter().ctx0) == (1, 3, TERMS.ctx0)
    assert enter(safeguards=Safeguards(2)).minimum == 2
    assert enter(safeguards=Safeguards(5)).minimum == 5
    assert enter(dataclasses.replace(TERMS, parameters=parameters(5, minimum_cohort=4))).minimum == 4


@pytest.mark.parametrize(("roster", "least"), [(2, 3), (3, 3), (4, 3), (5, 3), (6, 4), (10, 6), (11, 6), (1000, 501)])
def test_the_default_minimum_is_more_than_half_the_roster_and_three(roster, least):
    assert Safeguards().least(roster) == least
    assert Safeguards(2).least(roster) == 2


def test_two_clients_only_by_explicit_choice():
    pair = Consortium.of(2)
    terms = pair.terms(parameters(2))
    with pytest.raises(ParameterError, match="at least 3 clients, the roster has 2 and"):
        participant.enter(terms, pair.roster, pair.site(0, Safeguards()))
    assert participant.enter(terms, pair.roster, pair.site(0, Safeguards(2))).minimum == 2


def test_enter_refuses_what_is_not_this_sites_round():
    others = Consortium.of(6)
    with pytest.raises(NotAdmitted, match="of another consortium than 'demo'"):
        enter(dataclasses.replace(TERMS, deployment="other"))
    with pytest.raises(NotAdmitted, match="of another consortium"):
        enter(dataclasses.replace(TERMS, authority_hash=bytes(32)))
    for change in ({"roster_root": bytes(32)}, {"roster_size": 4}):
        with pytest.raises(Equivocation, match="round 1 names another roster than the one it shows"):
            enter(dataclasses.replace(TERMS, **change))
    with pytest.raises(NotAdmitted, match="is not in roster version 1"):
        enter(certificate=others.identities[5].certificate)
    with pytest.raises(ParameterError, match="weaker than this site's safeguards"):
        enter(safeguards=Safeguards(threat=ThreatModel(corrupt_fraction=0.2)))
    stronger = parameters(5, threat=ThreatModel(0.2, 0.2, security_bits=128))
    assert enter(dataclasses.replace(TERMS, parameters=stronger))


@pytest.fixture(scope="module")
def whole():
    """A whole round of five; one drops in masked_input."""
    return short_round(5, stops={4: "masked_input"}, until=Step.UNMASKING)


def test_no_state_shows_a_secret(whole):
    for player in whole.players.values():
        for state in player.states.values():
            shown = repr(state)
            for name, secret in player.secrets.items():
                assert repr(secret)[2:-1] not in shown, name
                assert secret.hex() not in shown, name
    masked = whole.players[0].states[Step.MASKED_INPUT]
    for shares in masked.held.values():
        assert repr(shares) == "Shares()"
        assert repr(shares.self_seed)[2:-1] not in repr(masked)


def test_an_advert_is_made_of_fresh_entropy_only():
    invited = enter()
    first, again, other = (participant.advertise_keys(invited, drbg(label)) for label in (0, 0, 1))
    assert first.advert == again.advert
    for field in ("mask_key", "share_key", "nonce", "self_seed_hash"):
        assert getattr(first.advert, field) != getattr(other.advert, field)
    assert len({*commitments.advert_fields(first.advert), first.self_seed, first.mask_pair.private}) == 6
    assert first.advert.mask_key == secagg.public(first.mask_pair.private)
    coordinator.admit_advert(TERMS, CONSORTIUM.roster, 1, first.advert)
    with pytest.raises(MessageError, match="advert of client 2 is not signed by it"):
        coordinator.admit_advert(TERMS, CONSORTIUM.roster, 2, first.advert)


def test_dealt_shares_are_the_twins(whole):
    """Every holder's shares, decrypted by the twin's key, give the dealer's secrets by the twin's interpolation."""
    members, t = range(5), whole.players[0].states[Step.SHARE_KEYS].cohort.threshold
    held = {h: whole.players[h].states[Step.MASKED_INPUT].held for h in range(4)}
    for dealer in members:
        secrets = whole.players[dealer].secrets
        for field, name in (("self_seed", "self seed"), ("mask_key", "mask key")):
            shares = {h: getattr(held[h][dealer], field) for h in range(4) if h != dealer}
            own = whole.players[dealer].states[Step.SHARE_KEYS].own_shares
            shares[dealer] = getattr(own, field)
            chosen = dict(list(shares.items())[:t])
            assert shamir.combine(chosen) == secrets[name]
            fewer = dict(list(shares.items())[: t - 1])
            assert shamir.combine(fewer) != secrets[name]


def test_envelopes_are_sealed_by_the_twins_key(whole):
    """ChaCha20-Poly1305 under HKDF(X25519, ctx1 || share || dealer || holder), zero nonce, ctx1 as associated data."""
    adverts = {said.client: said.body for said in whole.transcript if isinstance(said.body, Advert)}
    state = whole.players[3].states[Step.SHARE_KEYS]
    ctx1 = state.cohort.ctx1
    agreed = X25519PrivateKey.from_private_bytes(whole.players[3].secrets["share key"]).exchange(
        X25519PublicKey.from_public_bytes(adverts[1].share_key)
    )
    dealing = next(s.body for s in whole.transcript if s.client == 1 and s.step == Step.SHARE_KEYS and s.to_server)
    cipher = ChaCha20Poly1305(hkdf.share_key(agreed, ctx1, 1, 3))
    opened = cipher.decrypt(bytes(12), dealing.envelopes[3].ciphertext, ctx1)
    held = whole.players[3].states[Step.MASKED_INPUT].held[1]
    assert opened == held.self_seed + held.mask_key
    assert dealing.envelopes[1].ciphertext == b"", "its own share stays with the dealer"


def test_the_answer_is_fixed_by_the_signed_survivors(whole):
    """A share of b for whom is in U, of the mask key for whom is in U2 only, its own b, nothing of others."""
    player = whole.players[2]
    body = whole.end.announcement(2)
    (answer,) = player.react(body)
    assert [share.client for share in answer.self_seed_shares] == [0, 1, 2, 3]
    assert [share.client for share in answer.mask_key_shares] == [4]
    assert player.react(body) == (answer,)
    signed = player.states[Step.CONSISTENCY_CHECK]
    assert signed.survivors == (0, 1, 2, 3)
    assert signed.survivors_hash == commitments.clients_hash((0, 1, 2, 3))


def test_a_signature_counts_once_and_for_its_author_only(whole):
    player, body = whole.players[2], whole.end.announcement(2)
    renamed = dataclasses.replace(body.signatures[0], client=3)
    for forged in (
        (*body.signatures[:2], renamed),
        (dataclasses.replace(body.signatures[0], signature=bytes(64)), *body.signatures[1:]),
    ):
        with pytest.raises(Equivocation, match="did not sign the survivors that client 2 saw"):
            player.react(SignatureList(forged))
    dead = dataclasses.replace(body.signatures[-1], client=4)
    with pytest.raises(Equivocation, match="client 4 cannot have signed for client 2"):
        player.react(SignatureList((*body.signatures, dead)))
    with pytest.raises(RoundAborted, match="consistency check: 1 clients, this client needs 4"):
        player.react(SignatureList(()))


def test_a_refused_message_changes_nothing(whole):
    player = short_round(5, until=Step.CONSISTENCY_CHECK).players[0]
    before = dict(player.states)
    with pytest.raises(RoundAborted):
        player.react(Survivors((0, 1, 2, 3, 4), (1, 2, 3, 4)))
    assert player.states == before


def test_a_share_that_does_not_decrypt_is_reported_and_its_mask_still_applies():
    outcome = short_round(5, until=Step.MASKED_INPUT)
    player, body = outcome.players[0], outcome.end.announcement(0)
    state = player.states[Step.SHARE_KEYS]
    honest = player.react(body)[1].data
    player.states[Step.SHARE_KEYS] = dataclasses.replace(
        state, adverts={**state.adverts, 3: dataclasses.replace(state.adverts[3], share_key=state.adverts[2].share_key)}
    )
    header, chunk = player.react(body)
    assert [complaint.dealer for complaint in header.complaints] == [3]
    assert header.complaints[0].ciphertext == body.envelopes[2].envelope.ciphertext
    assert sorted(player.states[Step.MASKED_INPUT].held) == [1, 2, 4]
    assert chunk.data == honest


def test_the_server_recovers_what_the_survivors_gave_up(whole):
    """`reconstruct` and `remove_masks`, from answers of exactly t clients, whichever they are."""
    view = whole.end._view
    answers = {c: whole.players[c].react(whole.end.announcement(c))[0] for c in view.survivors}
    recovered = coordinator.reconstruct(view, answers)
    assert recovered.self_seeds == {c: whole.players[c].secrets["self seed"] for c in view.survivors}
    private = whole.players[4].secrets["mask key"]
    for u in view.survivors:
        public = secagg.public(whole.players[u].secrets["mask key"])
        assert recovered.dangling[u, 4] == secagg.pair_seed(private, public, view.cohort.ctx1, u, 4)
    total = coordinator.remove_masks(view, recovered, whole.end._total)
    assert [int(word) for word in total] == plain_sum(whole, view.survivors)
    with pytest.raises(RoundAborted, match="unmasking: 3 shares for client 0, need 4"):
        coordinator.reconstruct(view, {c: answers[c] for c in (0, 1, 2)})
    assert "seed" not in repr(recovered)


def test_view_tells_dealers_survivors_and_dropped(whole):
    assert (whole.end._view.dealers, whole.end._view.dropped) == ((0, 1, 2, 3, 4), (4,))


def test_words_of_all_clients_differ():
    """The harness itself: without this, sums of equal vectors could hide a mix-up."""
    words = ring_words(TERMS, range(5))
    assert len({tuple(vector.tolist()) for vector in words.values()}) == 5
