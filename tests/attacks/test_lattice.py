"""Attacks on the lattice mode: each test is named after what a liar, or a careless client, would do."""

from dataclasses import replace

import numpy as np
import pytest

from aggregator.crypto import roster as rosters
from aggregator.errors import MessageError
from aggregator.protocol import coordinator, lattice, pairwise, participant
from aggregator.protocol.encoding import encode
from aggregator.protocol.layout import DEGREE, KEY_BYTES, Layout
from aggregator.protocol.parameters import Mode
from aggregator.rounds.phase import Completed, Failed
from aggregator.wire._pb import aggregation_pb2
from aggregator.wire.messages import AdvertList, Chunk, RoundOpened
from aggregator.wire.vocabulary import Step
from clients.contribution import MaskedContribution, Own
from clients.journal import Journal
from clients.uploading import WholeUpload
from tests.consortium import ANY_COHORT, Consortium, drbg
from tests.harness import deliver, parameters, plain_sum, play, quantised_words
from tests.reference import rows as twin

# Every message that the server's side of a control stream may hold, with its fields. Whoever adds one asks first
# whether it could carry A, or anything that decides A: then a server could choose an A that is easy to invert.
SERVER_SAYS = {
    "ServerMessage": "round welcome round_opened advert_list share_list survivors signature_list round_closed "
    "round_failed excluded key_request freeze_request frozen_list audit_request decryption_request",
    "Welcome": "task last_round protocol_version",
    "RoundOpened": "terms roster key",
    "Terms": "protocol_version deployment task round server_nonce roster_size roster_root authority_hash "
    "model_hash parameters public_key_hash key_holder_hash auditor_hash",
    "Parameters": "mode value_bits clients_max clip weight_max rotate minimum_cohort threat tensors audit key_holder "
    "auditor",
    "Threat": "corrupt_fraction dropout_fraction malicious security_bits failure_bits",
    "Tensor": "name shape clip",
    "AnnouncedKey": "published key_holder_certificate auditor_certificate",
    "PublishedKey": "public_key custody_threshold custodians signature",
    "AdvertList": "listed neighbours",
    "ListedAdvert": "client hash",
    "NamedAdvert": "client advert",
    "Advert": "mask_key share_key nonce self_seed_hash signature",
    "ShareList": "dealers envelopes",
    "ReceivedEnvelope": "dealer envelope root signature proof",
    "Envelope": "ciphertext self_seed_share_hash mask_key_share_hash",
    "Survivors": "dealers survivors",
    "SignatureList": "signatures",
    "NamedSignature": "client signature",
    "RoundClosed": "survivors result_shared",
    "RoundFailed": "reason",
    "Excluded": "reason",
    "KeyRequest": "terms",
    "FreezeRequest": "terms roster commitments",
    "NamedCommitment": "client commitment",
    "InputCommitment": "hash minimum_cohort signature",
    "FrozenList": "commitments signature",
    "AuditRequest": "terms roster commitments survivors",
    "DecryptionRequest": "terms roster auditor_certificate commitments list_signature survivors sum_hash sum_signature",
}


def fields_within(message):
    """Field names, in order, of a message and of all that it may hold, by message."""
    found = {message.name: " ".join(field.name for field in message.fields)}
    for field in message.fields:
        if field.message_type is not None:
            found |= fields_within(field.message_type)
    return found


def lattice_round(n, entries=40, clients_max=None, **how):
    consortium = Consortium.of(n)
    terms = consortium.terms(parameters(n, entries, mode=Mode.LATTICE, clients_max=clients_max or n))
    return play(consortium, terms, quantised_words(terms, range(n)), **how)


def residues(payload, layout):
    """What follows the blinded key, of whole ciphertexts, one after the other."""
    data, row_bytes = bytes(payload[KEY_BYTES:]), layout.modulus.block_bytes // 3
    rows = [data[at : at + row_bytes] for at in range(0, len(data), row_bytes)]
    return np.array([twin.unpack(row, layout.modulus.bits) for row in rows], np.uint32)


def test_server_supplied_a_has_no_field_to_travel_in():
    """A hangs on ctx1 alone: nothing that the server says has room for one, and no step takes one.

    What has room for a public key is for homomorphic mode; a lattice round that comes with one is refused.
    """
    assert fields_within(aggregation_pb2.DESCRIPTOR.message_types_by_name["ServerMessage"]) == SERVER_SAYS
    outcome = lattice_round(3)
    ctx1 = outcome.players[0].states[Step.SHARE_KEYS].cohort.ctx1
    assert {p.states[Step.SHARE_KEYS].cohort.ctx1 for p in outcome.players.values()} == {ctx1}
    modulus = outcome.terms.parameters.layout.modulus
    one, other = (next(lattice.public_polynomials(context, range(1), modulus)) for context in (ctx1, bytes(32)))
    assert np.mean(one == other) < 0.01


def test_key_reused_across_vectors_is_impossible_since_the_step_draws_it():
    """The same step again, as after a retry, a restore or a fork: another key, for another vector and for the same."""
    outcome = lattice_round(4, until=Step.MASKED_INPUT)
    body, state, entropy = outcome.end.announcement(1), outcome.players[1].states[Step.SHARE_KEYS], drbg("restored")
    words = outcome.players[1].words
    first, changed, again = (
        np.frombuffer(participant.mask_input(state, body, x, entropy)[1], np.uint32)
        for x in (words, words[::-1].copy(), words)
    )
    for other in (changed, again):
        difference = (first - other)[:DEGREE].view(np.int32)  # the masks cancel, the keys do not
        assert np.abs(difference).max() <= 2 * 45
        assert np.mean(difference != 0) > 0.8
        assert np.mean(first[DEGREE:] == other[DEGREE:]) < 0.05


def test_key_reused_across_blocks_meets_another_a_and_other_errors():
    """Two blocks of equal entries under one key look nothing alike."""
    layout = Layout(2 * 3 * DEGREE, 26, 1_000)
    x = np.full(layout.entries, 7, np.uint32)
    payload = lattice.contribute(x, lambda words, ring_bits: words, layout, seed=bytes(32), ctx1=bytes(32), each=map)
    first, second = residues(payload, layout).reshape(2, 3, DEGREE)
    assert np.mean(first == second) < 0.001
    errors = next(lattice._errors(bytes(32), bytes(32), range(2)))
    assert np.mean(errors[0] == errors[1]) < 0.1


def test_a_wrong_context_decodes_to_noise():
    """A server that opens the sum under another ctx1 than the clients signed holds another A: the true key is no use.

    The ring has room for 1,000 clients, so that sums of four lie in its lowest 1/256.
    """
    outcome = lattice_round(4, entries=3_000, clients_max=1_000, until=Step.UNMASKING)
    phase = outcome.end
    for client in sorted(phase.awaited):
        deliver(outcome, phase, client, outcome.players[client].react(phase.announcement(client)))
    recovered = coordinator.reconstruct(phase._view, phase.answers)
    ctx1 = phase._view.cohort.ctx1
    unblind = pairwise.Unmasking(recovered.self_seeds, recovered.dangling, ctx1)  # to the true sum of the keys
    plain = plain_sum(outcome, range(4))
    assert phase._total.open(unblind, ctx1, map).tolist() == plain
    for place in (0, 31):
        wrong = bytes(byte ^ (index == place) for index, byte in enumerate(ctx1))
        opened = phase._total.open(unblind, wrong, map)
        assert np.mean(opened > max(plain)) > 0.98
        assert abs(np.corrcoef(opened.astype(float), plain)[0, 1]) < 0.1


def test_ciphertexts_are_uniform_even_of_nothing():
    """Chi-square over 64 cells a prime, the vector all zero and then all full: neither can be told from noise."""
    layout = Layout(20 * 3 * DEGREE, 26, 1_000)
    for fill in (0, 2**16 - 1):
        x = np.full(layout.entries, fill, np.uint32)
        payload = lattice.contribute(
            x, lambda words, ring_bits: words, layout, seed=drbg(fill)(32), ctx1=bytes(32), each=map
        )
        cells = residues(payload, layout).reshape(20, 3, DEGREE)
        for index, prime in enumerate(layout.modulus.primes):
            counts = np.bincount((cells[:, index].astype(np.uint64) * np.uint64(64) // np.uint64(prime)).ravel())
            expected = cells[:, index].size / 64
            assert ((counts - expected) ** 2 / expected).sum() < 120  # 63 degrees of freedom: above once in 50,000


def test_the_blinded_key_is_uniform():
    """Of one client, over rounds with other keys: the 32-bit words that travel fill their ring."""
    words = np.concatenate(
        [
            np.frombuffer(lattice_round(3, seed=i, until=Step.CONSISTENCY_CHECK).payload(0)[:KEY_BYTES], np.uint32)
            for i in range(4)
        ]
    )
    counts = np.bincount(words >> np.uint32(26), minlength=64)
    expected = words.size / 64
    assert ((counts - expected) ** 2 / expected).sum() < 120


@pytest.mark.parametrize("chunks", [1, 2])
def test_a_half_arrived_upload_is_in_no_sum(chunks):
    """The blinded key alone, or key and most of the ciphertext: neither the key nor the vector is counted."""
    consortium = Consortium.of(4)
    terms = consortium.terms(parameters(4, 21 * 3 * DEGREE, mode=Mode.LATTICE, clients_max=1_000))
    outcome = play(consortium, terms, quantised_words(terms, range(4)), until=Step.MASKED_INPUT)
    phase = outcome.end
    for client in range(4):
        header, *parts = outcome.players[client].react(phase.announcement(client))
        begun = phase.begin(client, header)
        for part in parts[:chunks] if client == 3 else parts:
            phase.receive(begun, part)
        if client != 3:
            phase.commit(begun)
        else:
            with pytest.raises(MessageError, match=f"sent {chunks} of 3 chunks"):
                phase.commit(begun)
    outcome.end = phase.finish()
    while not isinstance(outcome.end, Completed | Failed):
        for client in sorted(outcome.end.awaited):
            deliver(outcome, outcome.end, client, outcome.players[client].react(outcome.end.announcement(client)))
        outcome.end = outcome.end.finish()
    assert outcome.end.survivors == (0, 1, 2)
    assert outcome.total == plain_sum(outcome, (0, 1, 2))


def test_a_residue_outside_its_prime_is_refused_and_the_round_goes_on():
    def cheat(step, client, body):
        if isinstance(body, Chunk) and client == 2 and body.index == 1:
            return Chunk(1, b"\xff" * len(body.data))
        return body

    outcome = lattice_round(4, cheat=cheat)
    assert str(outcome.refusals[2]) == "client 2: chunk 1: a residue is not below its prime"
    assert outcome.end.survivors == (0, 1, 3)
    assert outcome.total == plain_sum(outcome, (0, 1, 3))


def test_a_blinded_key_that_is_no_gaussian_aborts_the_round():
    """A client may blind any words as its key. A sum too wide for that many keys ends the round, and names nobody."""

    def cheat(step, client, body):
        if isinstance(body, Chunk) and client == 2 and body.index == 0:
            return Chunk(0, bytes(byte ^ 0x40 for byte in body.data))
        return body

    outcome = lattice_round(4, cheat=cheat)
    assert outcome.end == Failed(Step.UNMASKING, "unmasking: what 4 clients blinded is no sum of their lattice keys")


def test_a_site_that_takes_no_part_in_lattice_mode_is_not_talked_into_it():
    site = replace(ANY_COHORT, modes=frozenset({Mode.PAIRWISE}))
    outcome = lattice_round(3, safeguards=site)
    assert {str(error) for error in outcome.errors.values()} == {
        "the round is in lattice mode: this site takes no part in that"
    }


def test_same_round_in_two_modes_has_two_contexts():
    consortium = Consortium.of(3)
    contexts = {consortium.terms(parameters(3, 40, mode=mode)).ctx0 for mode in (Mode.LATTICE, Mode.PAIRWISE)}
    assert len(contexts) == 2


def test_offset_zero_resend_is_bit_identical_and_draws_no_second_key(tmp_path):
    """The server asks again, as after a broken line: the client sends the bytes it kept, and encrypts nothing anew."""
    outcome = lattice_round(3, until=Step.MASKED_INPUT)
    draws, source = [], drbg("client", 0, 0)  # as the player's, so that this is the same client

    def entropy(size):
        draws.append(size)
        return source(size)

    site, terms = outcome.players[0].site, outcome.terms
    invited = participant.enter(terms, rosters.from_bytes(outcome.setting.roster_bytes), site)
    encoded = encode({"x": np.zeros(40)}, 1, terms.parameters, terms.ctx0, bytes(32))
    with Journal(tmp_path / "journal") as journal:
        part = MaskedContribution(invited, encoded, Own(journal, entropy, None), map)
        for body in (*outcome.said(RoundOpened, 0), *outcome.said(AdvertList, 0)):
            part.answer(body)
        draws.clear()
        shares = outcome.end.announcement(0)
        first = part.answer(shares)
        assert isinstance(first, WholeUpload)
        assert draws == [32, 16]  # the seed of key and errors, and the upload's id
        left = bytes(first.payload)
        assert part.answer(replace(shares)) is first  # as it comes again: another object that says the same
        assert bytes(first.payload) == left
        assert draws == [32, 16]
