"""Lies about shares, by dealers, holders and the server, and uploads that are sent again, late or twice."""

import dataclasses

import numpy as np
import pytest

from aggregator.crypto import agreement, signing
from aggregator.errors import Disconnected, Equivocation, MessageError, OutOfTurn, StorageError
from aggregator.protocol import commitments, participant
from aggregator.rounds.phase import Completed, Failed
from aggregator.wire.messages import Chunk, Complaint, Dealing, RevealedShare, Unmasking, UploadHeader
from aggregator.wire.vocabulary import Step
from tests.consortium import drbg
from tests.harness import deliver, plain_sum, short_round, upload

N = 7  # t = 5: two may fail
EVERYBODY = tuple(range(N))


def redealt(outcome, dealer, change):
    """A dealing with some envelopes changed, signed by its dealer as a whole: `change` maps holder to envelope."""
    cohort = outcome.players[dealer].states[Step.SHARE_KEYS].cohort
    (dealing,) = outcome.players[dealer].react(outcome.end.announcement(dealer))
    holders = cohort.holders(dealer)
    envelopes = tuple(change(h, e) for h, e in zip(holders, dealing.envelopes, strict=True))
    root = commitments.dealing_root(holders, envelopes)
    key = outcome.players[dealer].site.signing_key
    return Dealing(envelopes, signing.sign(key, commitments.DEALING, cohort.ctx1, dealer, root))


def false_dealing(dealer, change):
    """A cheat for `play`: client `dealer` deals other envelopes than it should."""
    prepared = short_round(N, until=Step.SHARE_KEYS)
    prepared.players[dealer].react(prepared.end.announcement(dealer))
    prepared.players[dealer].entropy = drbg("client", dealer, 0)
    lie = redealt(prepared, dealer, change)
    return lambda step, client, body: lie if client == dealer and isinstance(body, Dealing) else body


def garble(holder):
    """The envelope for `holder` holds garbage."""
    return lambda h, e: dataclasses.replace(e, ciphertext=bytes(80)) if h == holder else e


def test_wrong_share_is_attributed_when_it_does_not_decrypt():
    """The holder complains with the signed ciphertext; the mask still applies, and the others' shares are enough."""
    outcome = short_round(N, cheat=false_dealing(2, garble(5)))
    headers = {said.client: said.body for said in outcome.transcript if isinstance(said.body, UploadHeader)}
    assert headers[5].complaints == (Complaint(2, bytes(80)),)
    assert not any(header.complaints for client, header in headers.items() if client != 5)
    assert outcome.shares_given()[2]["self_seed_shares"] == set(EVERYBODY) - {5}
    assert outcome.end.survivors == EVERYBODY
    assert outcome.total == plain_sum(outcome, EVERYBODY)


def test_wrong_share_is_attributed_when_its_hash_is_false():
    """It decrypts, but is not the share whose hash the dealer signed: a complaint all the same."""

    def change(holder, envelope):
        return dataclasses.replace(envelope, mask_key_share_hash=bytes(32)) if holder == 5 else envelope

    outcome = short_round(N, cheat=false_dealing(2, change))
    headers = {said.client: said.body for said in outcome.transcript if isinstance(said.body, UploadHeader)}
    assert [c.dealer for c in headers[5].complaints] == [2]
    assert outcome.total == plain_sum(outcome, EVERYBODY)


def test_wrong_share_is_attributed_to_a_holder_that_complains_falsely():
    """A complaint must quote what the dealer signed; a ciphertext of the holder's making is refused."""
    outcome = short_round(N, until=Step.MASKED_INPUT)
    header, *chunks = outcome.players[5].react(outcome.end.announcement(5))
    sent = next(e for e in outcome.end.announcement(5).envelopes if e.dealer == 2).envelope.ciphertext
    for wrong, named in (
        (Complaint(2, bytes(80)), "client 5 complains of a share that client 2 did not send"),
        (Complaint(5, sent), "client 5 complains of client 5, who dealt nothing to it"),
        (Complaint(9, sent), "client 5 complains of client 9, who dealt nothing to it"),
    ):
        with pytest.raises(MessageError, match=named):
            outcome.end.begin(5, dataclasses.replace(header, complaints=(wrong,)))
    assert deliver(outcome, outcome.end, 5, (dataclasses.replace(header, complaints=(Complaint(2, sent),)), *chunks))


@pytest.mark.parametrize(
    ("stops", "kind", "dealer"), [({}, "self seed", 0), ({6: "masked_input"}, "mask key", 6)], ids=["seed", "key"]
)
def test_wrong_share_is_attributed_when_a_holder_gives_it(stops, kind, dealer):
    """Dealer and holder are named, and the round goes on without that holder's answer."""

    def cheat(step, client, body):
        if not isinstance(body, Unmasking) or client != 3:
            return body
        field = kind.replace(" ", "_") + "_shares"
        shares = [RevealedShare(s.client, bytes(32)) if s.client == dealer else s for s in getattr(body, field)]
        return dataclasses.replace(body, **{field: tuple(shares)})

    outcome = short_round(N, stops=stops, cheat=cheat)
    assert str(outcome.refusals[3]) == f"client 3 gave a {kind} share that dealer {dealer} did not deal"
    assert outcome.total == plain_sum(outcome, tuple(c for c in EVERYBODY if c not in stops))


@pytest.mark.parametrize(
    ("stops", "reason"),
    [
        ({}, "unmasking: the shares that client 2 dealt don't give the seed it committed to"),
        ({2: "masked_input"}, "unmasking: the shares that client 2 dealt don't give the key it advertised"),
    ],
    ids=["seed", "key"],
)
def test_wrong_share_is_attributed_to_a_dealer_whose_shares_are_of_another_secret(stops, reason):
    """All shares decrypt and have the signed hashes, but they are not of the secrets that the advert committed to."""
    prepared = short_round(N, until=Step.SHARE_KEYS)
    honest = prepared.players[2].states[Step.ADVERTISE_KEYS]
    other = agreement.KeyPair(b"\x11" * 32, honest.mask_pair.public)
    lying = dataclasses.replace(honest, self_seed=bytes(32), mask_pair=other)
    _, dealing = participant.share_keys(lying, prepared.end.announcement(2), drbg("dealer"))

    def cheat(step, client, body):
        return dealing if client == 2 and isinstance(body, Dealing) else body

    assert short_round(N, stops=stops, cheat=cheat).end == Failed(Step.UNMASKING, reason)


def test_wrong_share_put_in_by_the_server():
    """The holder checks inclusion and the dealer's signature: the server cannot blame a dealer."""
    outcome = short_round(N, until=Step.MASKED_INPUT)
    body = outcome.end.announcement(0)
    first = body.envelopes[0]
    envelope = dataclasses.replace(first.envelope, ciphertext=bytes(80))
    swapped = dataclasses.replace(first, envelope=body.envelopes[1].envelope)
    for forged, named in (
        (dataclasses.replace(first, envelope=envelope), "share of dealer 1 is not in what it signed"),
        (swapped, "share of dealer 1 is not in what it signed"),
        (dataclasses.replace(first, proof=first.proof[:-1]), "share of dealer 1 is not in what it signed"),
        (dataclasses.replace(first, root=bytes(32)), "share of dealer 1 is not in what it signed"),
        (dataclasses.replace(first, signature=bytes(64)), "shares of dealer 1 are not signed by it for this round"),
        (dataclasses.replace(body.envelopes[1], dealer=1), "shares of dealer 1 are not signed by it for this round"),
    ):
        with pytest.raises(Equivocation, match=named):
            outcome.players[0].react(dataclasses.replace(body, envelopes=(forged, *body.envelopes[1:])))
    assert outcome.players[0].react(body)


def test_wrong_share_of_an_earlier_round():
    """Dealt and signed by the right dealer for the right holder, a round ago."""
    earlier = short_round(N, until=Step.MASKED_INPUT, seed="earlier").end.announcement(0).envelopes[0]
    outcome = short_round(N, until=Step.MASKED_INPUT)
    body = outcome.end.announcement(0)
    with pytest.raises(Equivocation, match="shares of dealer 1 are not signed by it for this round"):
        outcome.players[0].react(dataclasses.replace(body, envelopes=(earlier, *body.envelopes[1:])))


def test_re_dealt_shares():
    """Shares are dealt once: t of one dealing and t of another would be two polynomials for one secret."""
    outcome = short_round(N, until=Step.SHARE_KEYS)
    (first,) = outcome.players[2].react(outcome.end.announcement(2))
    assert outcome.end.accept(2, first)
    (second,) = outcome.players[2].react(outcome.end.announcement(2))
    assert second != first
    with pytest.raises(MessageError, match="share_keys: client 2 answered twice, differently"):
        outcome.end.accept(2, second)
    assert not outcome.end.accept(2, first), "the identical answer again is a broken line, not a lie"
    assert outcome.end.answers[2] == first


def test_re_dealt_shares_and_other_answers_in_later_steps():
    outcome = short_round(N, until=Step.UNMASKING)
    (answer,) = outcome.players[0].react(outcome.end.announcement(0))
    assert outcome.end.accept(0, answer)
    assert not outcome.end.accept(0, *outcome.players[0].react(outcome.end.announcement(0)))
    with pytest.raises(MessageError, match="unmasking: client 0 answered twice, differently"):
        outcome.end.accept(0, dataclasses.replace(answer, self_seed_shares=answer.self_seed_shares[:-1]))


@pytest.fixture
def two_chunks():
    outcome = short_round(4, 600_000, until=Step.MASKED_INPUT)
    answers = {c: player.react(outcome.end.announcement(c)) for c, player in outcome.players.items()}
    assert [len(answer) for answer in answers.values()] == [3] * 4
    return outcome, answers


def test_offset_zero_resend_is_bit_identical(two_chunks):
    """The upload breaks in its second chunk and comes again: the same bytes, those that are held counted once."""
    outcome, answers = two_chunks
    phase = outcome.end
    again = outcome.players[1].react(phase.announcement(1))
    assert again == answers[1], "a fresh masking of the same input would give the server two ciphertexts of it"
    broken = phase.begin(1, answers[1][0])
    phase.receive(broken, answers[1][1])
    with pytest.raises(MessageError, match="client 1 sent 1 of 2 chunks"):
        phase.commit(broken)
    assert outcome.setting.spool.held_bytes == len(answers[1][1].data), "what had arrived is kept"
    assert not phase.answers
    assert [deliver(outcome, phase, c, answers[c]) for c in range(4)] == [True] * 4
    assert not outcome.setting.spool.held_bytes
    assert not deliver(outcome, phase, 1, again), "the second arrival is told that the first was accepted"
    outcome.end = finish(outcome)
    assert outcome.total == plain_sum(outcome, range(4))


def test_offset_zero_resend_beside_the_first_upload_counts_once(two_chunks):
    """Two uploads of one client, as when a line breaks unnoticed: the later one takes the earlier one's place."""
    outcome, answers = two_chunks
    phase = outcome.end
    first = phase.begin(1, answers[1][0])
    for chunk in answers[1][1:]:
        phase.receive(first, chunk)
    second = phase.begin(1, answers[1][0])
    assert second.chunks == 2, "it goes on where the first one was"
    with pytest.raises(Disconnected, match="client 1: a newer stream takes this upload's place"):
        phase.commit(first)
    with pytest.raises(MessageError, match="chunk 0 is surplus"):
        phase.receive(second, answers[1][1])
    phase.abandon(first)
    phase.commit(second)
    with pytest.raises(OutOfTurn, match="client 1"):
        phase.commit(second)
    assert [deliver(outcome, phase, c, answers[c]) for c in (0, 2, 3)] == [True] * 3
    outcome.end = finish(outcome)
    assert outcome.total == plain_sum(outcome, range(4))
    assert not outcome.setting.spool.held_bytes


def test_offset_zero_resend_takes_no_fresh_randomness():
    outcome = short_round(4, until=Step.MASKED_INPUT)
    player = outcome.players[1]
    body = outcome.end.announcement(1)
    state, masked = participant.mask_input(player.states[Step.SHARE_KEYS], body, player.words, player.entropy)
    same_state, same = participant.mask_input(player.states[Step.SHARE_KEYS], body, player.words, player.entropy)
    assert upload(state, masked) == upload(same_state, same)
    np.testing.assert_array_equal(masked, same)


def finish(outcome):
    """Play the rest of a round whose inputs are in."""
    phase = outcome.end.finish()
    while not isinstance(phase, Completed | Failed):
        for client in sorted(phase.awaited):
            deliver(outcome, phase, client, outcome.players[client].react(phase.announcement(client)))
        phase = phase.finish()
    return phase


@pytest.mark.parametrize("arrived", [0, 1, 2])
def test_late_input_destroyed(two_chunks, arrived):
    """What has not been accepted when the step ends is gone before the client's mask key can be asked for.

    Its mask key is about to be reconstructed: y_u would then be the client's input under a mask of b_u alone.
    """
    outcome, answers = two_chunks
    phase = outcome.end
    for client in (0, 2, 3):
        assert deliver(outcome, phase, client, answers[client])
    late = phase.begin(1, answers[1][0])
    for chunk in answers[1][1 : 1 + arrived]:
        phase.receive(late, chunk)
    held = sum(len(chunk.data) for chunk in answers[1][1 : 1 + arrived])
    assert outcome.setting.spool.held_bytes == held
    after = phase.finish()
    assert outcome.setting.spool.held_bytes == 0
    with pytest.raises(StorageError, match="it is closed"):
        late.staged.read(0, held)
    with pytest.raises(OutOfTurn, match="client 1: this step of the round is over"):
        phase.commit(late)
    with pytest.raises(OutOfTurn, match="client 1: this step of the round is over"):
        phase.receive(late, Chunk(arrived, b"x"))
    outcome.end = phase
    with pytest.raises(OutOfTurn, match="client 1 is not in this step"):
        after.accept(1, Unmasking((), ()))
    outcome.end = finish(outcome)
    assert outcome.end.survivors == (0, 2, 3)
    assert outcome.total == plain_sum(outcome, (0, 2, 3))
