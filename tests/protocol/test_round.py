"""The five steps on both sides, against the twin: the sum is the survivors' sum, or the round aborts by name."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.errors import RoundAborted
from aggregator.protocol.graph import ThreatModel
from aggregator.protocol.parameters import Mode
from aggregator.protocol.participant import Safeguards
from aggregator.rounds.phase import Completed, Failed
from aggregator.wire.messages import Advert, Chunk, SurvivorSignature, Unmasking
from aggregator.wire.vocabulary import MASKED_STEPS, Step
from tests.harness import (
    Consortium,
    never_both_secrets,
    no_secret_on_the_wire,
    parameters,
    play,
    quantised_words,
    ring_words,
)
from tests.reference import graph as twin_graph
from tests.reference import secagg

STEPS = MASKED_STEPS
WIDTHS = {20: (18, 4), 32: (30, 4), 33: (31, 4), 64: (54, 1024)}  # ring bits: value bits, clients_max
MODES = (Mode.PAIRWISE, Mode.LATTICE)
CHEAP = ThreatModel(0.0, 0.1, malicious=True, security_bits=40, failure_bits=10)


def round_of(n, stops, minimum=2, entries=1, **changes):
    """One round against the twin; the outcome when both agree."""
    consortium = Consortium.of(n)
    terms = consortium.terms(parameters(changes.pop("clients_max", n), entries, minimum_cohort=minimum, **changes))
    words = quantised_words(terms, range(n)) if terms.parameters.mode is Mode.LATTICE else ring_words(terms, range(n))
    outcome = play(consortium, terms, words, stops=stops, seed=(n, sorted(stops.items())))
    vectors = {client: [int(word) for word in vector] for client, vector in words.items()}
    twin = secagg.run(vectors, n, stops, minimum, b"twin", terms.parameters.ring_bits)
    agree(outcome, twin, n, minimum)
    return outcome


def agree(outcome, twin, n, minimum):
    assert outcome.errors == outcome.refusals == {}
    never_both_secrets(outcome)
    if isinstance(twin, secagg.Sum):
        assert isinstance(outcome.end, Completed), outcome.end
        assert (outcome.total, outcome.end.survivors) == (twin.total, twin.survivors)
        assert {s.client for s in outcome.transcript if isinstance(s.body, Unmasking)} == set(twin.answered)
        return
    assert isinstance(outcome.end, Failed), outcome.end
    have, need = counts(outcome.end.reason, n)
    assert (outcome.end.step, have) == (twin.step, twin.have)
    # The server looks for its minimum before it asks whether any threshold exists; the twin takes the larger need.
    assert need == (minimum if twin.step == Step.ADVERTISE_KEYS and have < minimum else twin.need)
    if twin.step != Step.UNMASKING:
        assert not list(outcome.said(Unmasking)), "an aborted round gave shares away"


def counts(reason, roster_size):
    """What a reason says: how many there were, and how many were needed."""
    found = re.search(r": (\d+) (?:clients|signatures|shares for client \d+), need (\d+)$", reason)
    if found:
        return int(found[1]), int(found[2])
    found = re.search(rf": (\d+) of {roster_size} clients are too few for any threshold$", reason)
    assert found, reason
    return int(found[1]), twin_graph.fewest(roster_size)


def spread(fates, n):
    """One assignment of a multiset of fates to clients, so that low and high ids drop alike."""
    turn = sum(fates) % n
    return {(i * 2 + turn) % n if n % 2 else (i + turn) % n: STEPS[f] for i, f in enumerate(fates) if f < len(STEPS)}


@pytest.mark.parametrize(
    ("n", "minimum"), [(2, 2), (3, 2), (3, 3), (4, 2), (4, 3), (4, 4), (5, 2), (5, 3), (5, 4), (5, 5)], ids=str
)
@pytest.mark.parametrize("mode", MODES)
def test_sum_equals_sum_of_survivors_for_every_dropout_pattern(n, minimum, mode):
    sums = aborts = 0
    for fates in itertools.combinations_with_replacement(range(len(STEPS) + 1), n):
        outcome = round_of(n, spread(fates, n), minimum, mode=mode)
        sums += isinstance(outcome.end, Completed)
        aborts += isinstance(outcome.end, Failed)
    assert sums >= 1
    assert aborts > sums


@settings(deadline=None, max_examples=25)
@given(data=st.data(), n=st.integers(6, 12), width=st.sampled_from(sorted(WIDTHS)), mode=st.sampled_from(MODES))
def test_sum_equals_sum_of_survivors(data, n, width, mode):
    patterns = st.dictionaries(st.integers(0, n - 1), st.sampled_from(STEPS), max_size=n // 3 + 1)
    value_bits, clients_max = WIDTHS[width]
    stops, minimum = data.draw(patterns), data.draw(st.integers(2, n))
    round_of(n, stops, minimum, value_bits=value_bits, clients_max=max(n, clients_max), mode=mode)


@pytest.mark.parametrize("width", WIDTHS)
def test_masked_vectors_are_the_twins_bit_for_bit(width):
    value_bits, clients_max = WIDTHS[width]
    n = 4
    outcome = round_of(n, {2: "masked_input"}, entries=7, value_bits=value_bits, clients_max=clients_max)
    assert outcome.terms.parameters.ring_bits == width
    assert outcome.end.survivors == (0, 1, 3)
    for me in outcome.end.survivors:
        assert outcome.masked(me) == masked_by_twin(outcome, me, set(range(n)) - {me})


def masked_by_twin(outcome, me, partners):
    """y_u from the client's own secrets and what the others advertised."""
    cohort = outcome.players[me].states[Step.SHARE_KEYS].cohort
    mine = outcome.players[me].secrets
    publics = {s.client: s.body.mask_key for s in outcome.transcript if isinstance(s.body, Advert)}
    seeds = {v: secagg.pair_seed(mine["mask key"], publics[v], cohort.ctx1, me, v) for v in partners}
    words = [int(word) for word in outcome.players[me].words]
    bits = outcome.terms.parameters.ring_bits
    return secagg.masked_vector(words, me, mine["self seed"], seeds, cohort.ctx1, bits)


def test_a_dropout_at_every_step_of_one_round():
    stops = {0: "advertise_keys", 3: "share_keys", 5: "masked_input", 8: "consistency_check", 11: "unmasking"}
    outcome = round_of(15, stops, entries=3)
    assert outcome.end.survivors == (1, 2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14)
    no_secret_on_the_wire(outcome)
    assert not outcome.setting.spool.held_bytes
    given = outcome.shares_given()
    assert set(given) == set(outcome.end.survivors) | {5}
    assert {kind: len(by) for kind, by in given[5].items()} == {"self_seed_shares": 0, "mask_key_shares": 10}
    assert given[8]["mask_key_shares"] == set(), "who vanished after its input is in the sum; its key stays its own"


def test_the_sum_is_the_same_whatever_the_order_of_arrival():
    consortium = Consortium.of(5)
    terms = consortium.terms(parameters(5))
    words = ring_words(terms, range(5))
    outcomes = [play(consortium, terms, words, order=order) for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2])]
    assert outcomes[0].total == outcomes[1].total
    for client in range(5):
        assert outcomes[0].payload(client) == outcomes[1].payload(client)
        assert len({next(outcome.said(SurvivorSignature, client)) for outcome in outcomes}) == 1


def test_a_vector_of_several_chunks_with_a_half_arrived_upload():
    """The chunk that client 1 still sent never touches the sum."""
    consortium = Consortium.of(4)
    terms = consortium.terms(parameters(4, 600_000))
    words = ring_words(terms, range(4))
    outcome = play(consortium, terms, words, stops={1: "masked_input"})
    assert (terms.parameters.ring_bits, terms.parameters.result_plan.chunks) == (18, 2)
    assert [len(list(outcome.said(Chunk, client))) for client in range(4)] == [2, 1, 2, 2]
    assert outcome.end.survivors == (0, 2, 3)
    want = (words[0].astype(np.uint64) + words[2] + words[3]) % 2**18
    np.testing.assert_array_equal(outcome.end.total, want)
    assert not outcome.setting.spool.held_bytes


@pytest.mark.parametrize(
    ("stop", "step", "reason"),
    [
        ("advertise_keys", Step.SHARE_KEYS, "advertise keys: 5 clients, this client needs 6"),
        ("share_keys", Step.MASKED_INPUT, "share keys: 5 clients, this client needs 6"),
        ("masked_input", Step.CONSISTENCY_CHECK, "masked input: 5 clients, this client needs 6"),
    ],
)
def test_a_client_keeps_its_own_minimum_whatever_the_server_accepts(stop, step, reason):
    consortium = Consortium.of(6)
    terms = consortium.terms(parameters(6))
    words = ring_words(terms, range(6))
    whole = play(consortium, terms, words, safeguards=Safeguards(6))
    assert isinstance(whole.end, Completed)
    outcome = play(consortium, terms, words, stops={4: stop}, safeguards=Safeguards(6))
    assert {(type(e), str(e)) for e in outcome.errors.values()} == {(RoundAborted, reason)}
    assert len(outcome.errors) == 5
    assert isinstance(outcome.end, Failed)
    assert (outcome.end.step, counts(outcome.end.reason, 6)[0]) == (step, 0)
    assert not list(outcome.said(Unmasking))


@pytest.fixture(scope="module")
def sparse():
    """104 clients on the k-regular graph; ten are gone, two at every step, as delta allows."""
    n = 104
    stops = {i * 10 + 3: STEPS[i % len(STEPS)] for i in range(10)}
    consortium = Consortium.of(n)
    terms = consortium.terms(parameters(n, 3, threat=CHEAP))
    words = ring_words(terms, range(n))
    return stops, words, play(consortium, terms, words, stops=stops, safeguards=Safeguards(2, CHEAP))


def test_the_k_regular_graph_sums_the_survivors(sparse):
    stops, words, outcome = sparse
    gone = {c for c, step in stops.items() if step in STEPS[:3]}
    assert isinstance(outcome.end, Completed), outcome.end
    assert outcome.end.survivors == tuple(c for c in range(104) if c not in gone)
    want = sum(words[c].astype(np.uint64) for c in outcome.end.survivors) % 2**outcome.terms.parameters.ring_bits
    assert outcome.total == [int(word) for word in want]
    assert outcome.errors == outcome.refusals == {}
    never_both_secrets(outcome)


def test_the_k_regular_graph_is_the_twins(sparse):
    stops, _, outcome = sparse
    members = [c for c in range(104) if stops.get(c) != Step.ADVERTISE_KEYS]
    dealers = {c for c in members if stops.get(c) != Step.SHARE_KEYS}
    k, t = twin_graph.sparse(len(members), 104, "0", "0.1", malicious=True, security_bits=40, eta=10)
    for me in (0, 50, 103):
        cohort = outcome.players[me].states[Step.SHARE_KEYS].cohort
        near = twin_graph.neighbours(cohort.ctx1, len(members), k, members.index(me))
        partners = {members[p] for p in near}
        assert (cohort.threshold, set(cohort.neighbours(me))) == (t, partners)
        assert outcome.masked(me) == masked_by_twin(outcome, me, partners & dealers)
        assert len(outcome.shares_given()[me]["self_seed_shares"]) <= k < len(members) - 1


def test_the_k_regular_graph_aborts_below_its_share_of_survivors():
    n, consortium = 104, Consortium.of(104)
    terms = consortium.terms(parameters(n, 1, threat=CHEAP))
    stops = dict.fromkeys(range(11), "masked_input")
    outcome = play(consortium, terms, ring_words(terms, range(n)), stops=stops, safeguards=Safeguards(2, CHEAP))
    assert outcome.end == Failed(Step.MASKED_INPUT, "masked input: 93 clients, need 94")
    assert not list(outcome.said(Unmasking))
