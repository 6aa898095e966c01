"""Attacks on the lattice mode: each test is named after what a liar, or a careless client, would do."""

from dataclasses import replace

import numpy as np
import pytest

from aggregator.errors import MessageError
from aggregator.protocol import lattice, participant
from aggregator.protocol.layout import DEGREE, KEY_BYTES, PRIMES, Layout
from aggregator.protocol.parameters import Mode
from aggregator.rounds.phase import Completed, Failed
from aggregator.wire._pb import aggregation_pb2
from aggregator.wire.messages import Chunk
from aggregator.wire.vocabulary import Step
from tests.consortium import ANY_COHORT, Consortium, drbg
from tests.harness import deliver, parameters, plain_sum, play, quantised_words, upload


def lattice_round(n, entries=40, **how):
    consortium = Consortium.of(n)
    terms = consortium.terms(parameters(n, entries, mode=Mode.LATTICE))
    return play(consortium, terms, quantised_words(terms, range(n)), **how)


def test_server_supplied_a_has_no_field_to_travel_in():
    """A hangs on ctx1 alone: no message to the client holds one, and no step takes one."""
    messages = aggregation_pb2.DESCRIPTOR.message_types_by_name
    names = {field.name for message in messages.values() for field in message.fields}
    assert not {name for name in names if "matrix" in name or "polynomial" in name or name in {"a", "seed"}}
    outcome = lattice_round(3)
    ctx1 = outcome.players[0].states[Step.SHARE_KEYS].cohort.ctx1
    assert {p.states[Step.SHARE_KEYS].cohort.ctx1 for p in outcome.players.values()} == {ctx1}
    one, other = (next(lattice.public_polynomials(context, range(1))) for context in (ctx1, bytes(32)))
    assert np.mean(one == other) < 0.01


def test_key_reused_across_vectors_is_impossible_since_the_step_draws_it():
    """The same step on two vectors, as after a retry, a restore or a fork: two keys, two error vectors."""
    outcome = lattice_round(4, until=Step.MASKED_INPUT)
    player = outcome.players[1]
    body = outcome.end.announcement(1)
    state = player.states[Step.SHARE_KEYS]
    entropy = drbg("restored")
    _, first = participant.mask_input(state, body, player.words, entropy)
    _, second = participant.mask_input(state, body, player.words, entropy)
    heads = [np.frombuffer(payload[:KEY_BYTES], np.int32) for payload in (first, second)]
    difference = heads[0] - heads[1]  # the masks cancel, the keys do not
    assert np.abs(difference).max() <= 2 * 41
    assert np.mean(difference != 0) > 0.8
    tails = [np.frombuffer(payload[KEY_BYTES:], np.uint32) for payload in (first, second)]
    assert np.mean(tails[0] == tails[1]) < 0.05


def test_key_reused_across_chunks_meets_another_a_and_other_errors():
    """Two chunks of equal entries under one key look nothing alike."""
    layout = Layout(2 * 3 * DEGREE, 26, 1_000)
    x = np.full(layout.entries, 7, np.uint32)
    payload = lattice.contribute(x, lambda words, ring_bits: words, layout, seed=bytes(32), ctx1=bytes(32), each=map)
    first, second = np.frombuffer(payload[KEY_BYTES:], np.uint32).reshape(2, 3, DEGREE)
    assert np.mean(first == second) < 0.001
    errors = next(lattice._errors(bytes(32), bytes(32), range(2)))
    assert np.mean(errors[0] == errors[1]) < 0.1


def test_a_wrong_context_decodes_to_noise():
    """A server that opens the sum under another ctx1 than the clients signed holds another A."""
    outcome = lattice_round(4, entries=3_000, until=Step.CONSISTENCY_CHECK)
    total = outcome.end._total
    layout = outcome.terms.parameters.layout
    keys = np.zeros(DEGREE, np.uint32)
    opened = total.open(lambda words, ring_bits: keys, bytes(32), map).astype(np.float64)
    plain = np.array(plain_sum(outcome, range(4)), np.float64)
    assert abs(np.corrcoef(opened, plain)[0, 1]) < 0.1
    assert layout.slot_bits == outcome.terms.parameters.ring_bits


def test_ciphertexts_are_uniform_even_of_nothing():
    """Chi-square over 64 cells a prime, the vector all zero and then all full: neither can be told from noise."""
    layout = Layout(20 * 3 * DEGREE, 26, 1_000)
    for fill in (0, 2**16 - 1):
        x = np.full(layout.entries, fill, np.uint32)
        payload = lattice.contribute(
            x, lambda words, ring_bits: words, layout, seed=drbg(fill)(32), ctx1=bytes(32), each=map
        )
        cells = np.frombuffer(payload[KEY_BYTES:], np.uint32).reshape(20, 3, DEGREE)
        for index, prime in enumerate(PRIMES):
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
    terms = consortium.terms(parameters(4, 22 * 3 * DEGREE, mode=Mode.LATTICE, clients_max=1_000))
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
            return Chunk(1, bytes(body.data[:-4]) + PRIMES[2].to_bytes(4, "little"))
        return body

    outcome = lattice_round(4, cheat=cheat)
    assert str(outcome.refusals[2]) == "client 2: chunk 1: a residue is not below its prime"
    assert outcome.end.survivors == (0, 1, 3)
    assert outcome.total == plain_sum(outcome, (0, 1, 3))


def test_negated_key_of_a_colluder_only_spoils_the_sum_it_is_in():
    """A client may blind any words as its key; sums that are no sum of Gaussians end the round by name."""

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


def test_offset_zero_resend_is_bit_identical():
    """What leaves again is what left: the client keeps the bytes, and drops seed, key and errors."""
    outcome = lattice_round(3, until=Step.MASKED_INPUT)
    state, payload = participant.mask_input(
        outcome.players[0].states[Step.SHARE_KEYS],
        outcome.end.announcement(0),
        outcome.players[0].words,
        drbg("once"),
    )
    assert upload(state, payload) == upload(state, payload)
    assert "bytes" not in repr(state)
