"""A server that lies about who is alive: in U1, in U2 or in U. It must learn nothing more than a sum."""

import dataclasses
import itertools

import pytest

from aggregator.errors import Equivocation, MessageError, ParameterError, RoundAborted
from aggregator.protocol.graph import ThreatModel, degree
from aggregator.protocol.participant import Safeguards
from aggregator.rounds.phase import Completed, Failed
from aggregator.wire import codec
from aggregator.wire._pb import aggregation_pb2
from aggregator.wire.messages import (
    ListedAdvert,
    NamedSignature,
    RoundOpened,
    ServerMessage,
    SignatureList,
    Survivors,
    Unmasking,
)
from aggregator.wire.vocabulary import Step
from tests.consortium import Consortium, drbg
from tests.harness import Player, parameters, plain_sum, play, ring_words, short_round

N = 10
EVERYBODY = tuple(range(N))
THRESHOLD, CORRUPT_MOST = 7, 3  # of ten: floor(2n/3) + 1, and below a third of the roster
CHEAP = ThreatModel(0.0, 0.1, malicious=True, security_bits=40, failure_bits=10)


@pytest.fixture
def masked():
    """All inputs are in; the consistency check begins."""
    return short_round(N, until=Step.CONSISTENCY_CHECK)


def signed(outcome, client, survivors):
    """A client's signature on (U2, survivors) as the next list of signatures holds it."""
    dealers = outcome.players[client].states[Step.MASKED_INPUT].dealers
    (answer,) = outcome.players[client].react(Survivors(dealers, survivors))
    return NamedSignature(client, answer.signature)


def others(signatures, me):
    return SignatureList(tuple(item for item in signatures if item.client != me))


def shares_won(outcome, victim, corrupt, believers):
    """How many shares of the victim's seed and of its mask key a lying server collects.

    `believers` are told that the victim lives, the other honest clients that it is dead; the corrupt sign and tell all.
    """
    without = tuple(c for c in EVERYBODY if c != victim)
    told = {c: EVERYBODY if c in believers else without for c in EVERYBODY if c not in corrupt}
    won = {EVERYBODY: set(corrupt), without: set(corrupt)}
    for survivors, givers in won.items():
        views = [c for c, seen in told.items() if seen == survivors]
        signatures = [signed(outcome, c, survivors) for c in sorted({*views, *corrupt})]
        for client in views:
            try:
                (answer,) = outcome.players[client].react(others(signatures, client))
            except RoundAborted:
                continue
            givers.add(client)
            seeds, keys = ({s.client for s in given} for given in (answer.self_seed_shares, answer.mask_key_shares))
            assert not seeds & keys, f"client {client} gave both shares"
            assert victim in (seeds if survivors == EVERYBODY else keys)
    return len(won[EVERYBODY]), len(won[without])


def test_both_shares_asked(masked):
    """However the server splits the honest, it gets t shares of one secret at most."""
    victim, corrupt = 0, (7, 8, 9)
    honest = [c for c in EVERYBODY if c not in corrupt]
    best = set()
    for size in range(1, len(honest) + 1):
        seeds, keys = shares_won(masked, victim, corrupt, set(honest[:size]))
        assert min(seeds, keys) < THRESHOLD
        best.add((seeds >= THRESHOLD, keys >= THRESHOLD))
    assert (True, False) in best, "the honest case works"


def test_both_shares_asked_would_succeed_with_one_more_corrupt_client(masked):
    """The bound is tight: beyond a third of the roster nothing is promised, and nothing holds."""
    seeds, keys = shares_won(masked, 0, (6, 7, 8, 9), {0, 1, 2})
    assert seeds >= THRESHOLD <= keys


def test_both_shares_given_by_a_client_are_refused():
    """Even a willing client cannot give both: the server takes one kind for each client."""

    def generous(step, client, body):
        if not isinstance(body, Unmasking) or client != 4:
            return body
        return dataclasses.replace(body, mask_key_shares=body.self_seed_shares[:1])

    outcome = short_round(N, cheat=generous)
    assert str(outcome.refusals[4]) == "client 4 gave a mask key share of client 0 that was not asked for"
    assert isinstance(outcome.end, Completed)
    assert outcome.total == plain_sum(outcome, EVERYBODY)


def test_two_survivor_sets(masked):
    """Signatures under two sets don't add up: neither half goes on, and a mixture shows the lie."""
    without = EVERYBODY[1:]
    halves = {EVERYBODY: (0, 1, 2, 3, 4), without: (5, 6, 7, 8, 9)}
    signatures = [signed(masked, c, survivors) for survivors, half in halves.items() for c in half]
    for half in halves.values():
        for client in half:
            with pytest.raises(RoundAborted, match="5 clients, this client needs 7"):
                masked.players[client].react(others([s for s in signatures if s.client in half], client))
            with pytest.raises(Equivocation, match=f"did not sign the survivors that client {client} saw"):
                masked.players[client].react(others([s for s in signatures if s.client != 0], client))


def test_two_survivor_sets_shown_by_the_server_stop_it():
    def two_faced(step, client, body):
        if step is not Step.CONSISTENCY_CHECK or client < 5:
            return body
        return dataclasses.replace(body, survivors=body.survivors[1:])

    outcome = short_round(N, lie=two_faced)
    assert outcome.end == Failed(Step.CONSISTENCY_CHECK, "consistency check: 5 signatures, need 7")
    assert {str(e) for e in outcome.refusals.values()} == {
        f"client {c} signed other survivors than it was shown" for c in range(5, 10)
    }
    assert not list(outcome.said(Unmasking))


def test_u_not_subset_of_u2():
    outcome = short_round(N, stops={9: "share_keys"}, until=Step.CONSISTENCY_CHECK)
    dealers = EVERYBODY[:9]
    assert signed(outcome, 0, dealers)
    with pytest.raises(Equivocation, match=r"U names clients \[9\], who are not in U2"):
        outcome.players[0].react(Survivors(dealers, EVERYBODY))
    with pytest.raises(Equivocation, match="U2 is not the set that it masked over"):
        outcome.players[0].react(Survivors(EVERYBODY, EVERYBODY))


def test_id_outside_roster_in_u(masked):
    with pytest.raises(Equivocation, match=r"U names clients \[10, 9999\], who are not in U2"):
        masked.players[0].react(Survivors(EVERYBODY, (*EVERYBODY, 10, 9999)))
    assert signed(masked, 0, EVERYBODY)


def test_id_outside_roster_in_u1_and_u2():
    outcome = short_round(N, until=Step.SHARE_KEYS)
    body = outcome.end.announcement(0)
    with pytest.raises(MessageError, match="names client 10, the roster has 10"):
        outcome.players[0].react(dataclasses.replace(body, listed=(*body.listed[:-1], ListedAdvert(10, bytes(32)))))
    outcome = short_round(N, until=Step.MASKED_INPUT)
    body = outcome.end.announcement(0)
    with pytest.raises(MessageError, match="U2 names client 10, whose advert is not in the round"):
        outcome.players[0].react(dataclasses.replace(body, dealers=(*EVERYBODY, 10)))
    assert outcome.players[0].react(body)


def test_self_listed_dead(masked):
    with pytest.raises(RoundAborted, match="the round goes on without client 4"):
        masked.players[4].react(Survivors(EVERYBODY, tuple(c for c in EVERYBODY if c != 4)))
    outcome = short_round(N, until=Step.MASKED_INPUT)
    body = outcome.end.announcement(4)
    with pytest.raises(RoundAborted, match="the round goes on without client 4"):
        outcome.players[4].react(dataclasses.replace(body, dealers=tuple(c for c in EVERYBODY if c != 4)))
    outcome = short_round(N, until=Step.SHARE_KEYS)
    body = outcome.end.announcement(4)
    listed = tuple(item for item in body.listed if item.client != 4)
    with pytest.raises(Equivocation, match="does not hold this client's own advert"):
        outcome.players[4].react(dataclasses.replace(body, listed=listed))


def test_excess_declared_dropouts(masked):
    """Six alive of ten: 2/3 of the clients would do for one view, but then two views could exist."""
    for client in EVERYBODY[: THRESHOLD - 1]:
        with pytest.raises(RoundAborted, match="6 clients, this client needs 7"):
            masked.players[client].react(Survivors(EVERYBODY, EVERYBODY[: THRESHOLD - 1]))
    assert signed(masked, 0, EVERYBODY[:THRESHOLD])


def test_excess_declared_dropouts_against_a_clients_own_minimum():
    outcome = short_round(N, until=Step.CONSISTENCY_CHECK, safeguards=Safeguards(9))
    with pytest.raises(RoundAborted, match="8 clients, this client needs 9"):
        outcome.players[0].react(Survivors(EVERYBODY, EVERYBODY[:8]))
    assert signed(outcome, 0, EVERYBODY[:9])


@pytest.fixture(scope="module")
def sparse():
    n, consortium = 104, Consortium.of(104)
    terms = consortium.terms(parameters(n, 1, threat=CHEAP))
    words = ring_words(terms, range(n))
    return play(consortium, terms, words, until=Step.CONSISTENCY_CHECK, safeguards=Safeguards(2, CHEAP))


def test_excess_declared_dropouts_on_the_k_regular_graph(sparse):
    """Above 100 clients a tenth may drop, and fewer than t living neighbours are too few whatever the rest does."""
    everybody = tuple(range(104))
    player = sparse.players[0]
    near = player.states[Step.SHARE_KEYS].cohort.neighbours(0)
    far = [c for c in everybody[1:] if c not in near]
    assert player.states[Step.SHARE_KEYS].cohort.threshold == 9
    assert len(near) == 16

    def without(*gone):
        return Survivors(everybody, tuple(c for c in everybody if c not in gone))

    assert player.react(without(*far[:10]))
    with pytest.raises(RoundAborted, match="93 clients, this client needs 94"):
        player.react(without(*far[:11]))
    assert player.react(without(*near[:7]))
    with pytest.raises(RoundAborted, match="8 clients, this client needs 9"):
        player.react(without(*near[:8]))


def test_lowered_threshold_by_fewer_signatures(masked):
    """The client counts by its own t; its own signature counts where it holds a share of its own secrets."""
    signatures = [signed(masked, c, EVERYBODY) for c in EVERYBODY]
    with pytest.raises(RoundAborted, match="consistency check: 6 clients, this client needs 7"):
        masked.players[0].react(SignatureList(tuple(signatures[1 : THRESHOLD - 1])))
    assert masked.players[0].react(SignatureList(tuple(signatures[1:THRESHOLD])))
    with pytest.raises(Equivocation, match="client 0 cannot have signed for client 0"):
        masked.players[0].react(SignatureList(tuple(signatures[:THRESHOLD])))


def test_lowered_threshold_by_one_signature_many_times(masked):
    """The step itself counts authors, whatever carried the list to it."""
    signed(masked, 0, EVERYBODY)
    one = signed(masked, 1, EVERYBODY)
    with pytest.raises(RoundAborted, match="consistency check: 2 clients, this client needs 7"):
        masked.players[0].react(SignatureList((one,) * THRESHOLD))


def test_lowered_threshold_by_fewer_signatures_on_the_k_regular_graph(sparse):
    """There nobody holds its own share: t signatures of neighbours, none of one's own."""
    everybody = tuple(range(104))
    near = sparse.players[0].states[Step.SHARE_KEYS].cohort.neighbours(0)
    signatures = tuple(signed(sparse, c, everybody) for c in (*near, 0))[:-1]
    with pytest.raises(RoundAborted, match="8 clients, this client needs 9"):
        sparse.players[0].react(SignatureList(signatures[:8]))
    assert sparse.players[0].react(SignatureList(signatures[:9]))
    stranger = next(c for c in everybody[1:] if c not in near)
    with pytest.raises(Equivocation, match=f"client {stranger} cannot have signed for client 0"):
        sparse.players[0].react(SignatureList((signed(sparse, stranger, everybody), *signatures[:8])))


def test_lowered_threshold_by_the_terms():
    """No message carries k or t; what they follow from is checked before anything leaves."""
    consortium = Consortium.of(N)
    terms = consortium.terms(parameters(N))
    player = Player(consortium.site(0, Safeguards()), ring_words(terms, [0])[0], drbg("client"))

    def enter(terms):
        return player.react(RoundOpened(terms.to_message(), consortium.roster.to_bytes()))

    assert enter(terms)
    with pytest.raises(Equivocation, match="another roster"):
        enter(dataclasses.replace(terms, roster_size=6))
    for weaker in ({"corrupt_fraction": 0.05}, {"security_bits": 80}, {"malicious": False}):
        threat = dataclasses.replace(ThreatModel(), **weaker)
        with pytest.raises(ParameterError, match="threat model is weaker than this site's safeguards"):
            enter(dataclasses.replace(terms, parameters=parameters(N, threat=threat)))
    with pytest.raises(ParameterError, match="at least 6 clients, the roster has 10 and the round holds at most 5"):
        enter(dataclasses.replace(terms, parameters=parameters(5)))


def test_shrunk_u1():
    """Seven of ten advertise. Counted on seven, t would be 5; the roster's three corrupt make it 6."""
    assert degree(7, 7, ThreatModel()).t == 5
    stops = dict.fromkeys((7, 8, 9), "advertise_keys")
    outcome = short_round(N, stops={**stops, 6: "masked_input"})
    assert isinstance(outcome.end, Completed)
    assert outcome.players[0].states[Step.SHARE_KEYS].cohort.threshold == 6
    outcome = short_round(N, stops={**stops, 6: "masked_input", 5: "masked_input"})
    assert outcome.end == Failed(Step.MASKED_INPUT, "masked input: 5 clients, need 6")


def test_shrunk_u1_leaves_no_room_for_two_views():
    """Whatever U1 is left of whatever roster, the corrupt below a third of the ROSTER cannot complete two views."""
    for roster, n in itertools.product(range(2, 101), range(2, 101)):
        corrupt = -(-roster // 3) - 1
        if corrupt < n <= roster:
            t = degree(n, roster, ThreatModel()).t
            assert (n - corrupt) + 2 * corrupt < 2 * t <= 2 * n


def test_per_client_u2():
    """One client masks over another U2. Its signature then fits nobody's, and without it the sum is noise."""
    victim, hidden = 2, 5

    def hide(step, client, body):
        if step is not Step.MASKED_INPUT or client != victim:
            return body
        dealers = tuple(d for d in body.dealers if d != hidden)
        return dataclasses.replace(
            body, dealers=dealers, envelopes=tuple(e for e in body.envelopes if e.dealer != hidden)
        )

    outcome = short_round(N, lie=hide)
    assert isinstance(outcome.errors[victim], Equivocation)
    assert "U2 is not the set that it masked over" in str(outcome.errors[victim])
    assert isinstance(outcome.end, Completed)
    assert all(a != b for a, b in zip(outcome.total, plain_sum(outcome, EVERYBODY), strict=True))


def test_per_client_u2_kept_up_to_the_signatures():
    """The hidden client drops out, so that all agree on U. The signature still differs, since it covers U2 as well."""
    victim, hidden = 2, 5

    def hide(step, client, body):
        if client != victim or step not in {Step.MASKED_INPUT, Step.CONSISTENCY_CHECK}:
            return body
        shown = dataclasses.replace(body, dealers=tuple(d for d in body.dealers if d != hidden))
        if step is Step.CONSISTENCY_CHECK:
            return shown
        return dataclasses.replace(shown, envelopes=tuple(e for e in body.envelopes if e.dealer != hidden))

    outcome = short_round(N, stops={hidden: "masked_input"}, lie=hide, until=Step.UNMASKING)
    signed_by = {c: player.states[Step.CONSISTENCY_CHECK] for c, player in outcome.players.items() if c != hidden}
    assert len({state.survivors for state in signed_by.values()}) == 1
    assert str(outcome.refusals[victim]) == f"client {victim} signed other survivors than it was shown"
    honest = outcome.end.announcement(0).signatures
    forged = [*honest, NamedSignature(victim, signed_by[victim].signature.signature)]
    with pytest.raises(Equivocation, match="client 2 did not sign the survivors that client 0 saw"):
        outcome.players[0].react(SignatureList(tuple(sorted(forged, key=lambda item: item.client))))
    assert outcome.players[0].react(SignatureList(honest))
    with pytest.raises(Equivocation, match="client 0 did not sign the survivors that client 2 saw"):
        outcome.players[victim].react(outcome.end.announcement(victim))


def test_per_client_u2_without_the_envelopes_to_match():
    outcome = short_round(N, until=Step.MASKED_INPUT)
    body = outcome.end.announcement(0)
    for envelopes in (body.envelopes[1:], ()):
        with pytest.raises(Equivocation, match="the shares received are not those of its neighbours in U2"):
            outcome.players[0].react(dataclasses.replace(body, envelopes=envelopes))
    with pytest.raises(Equivocation, match="the shares received are not those of its neighbours in U2"):
        outcome.players[0].react(dataclasses.replace(body, dealers=EVERYBODY[:-1]))
    few = dataclasses.replace(body, dealers=EVERYBODY[:6], envelopes=body.envelopes[:5])
    with pytest.raises(RoundAborted, match="share keys: 6 clients, this client needs 7"):
        outcome.players[0].react(few)


def test_two_disjoint_cohorts():
    """By default a cohort is more than half of the roster, so that any two share a client."""
    for roster in range(3, 200):
        assert 2 * Safeguards().least(roster) > roster
        assert Safeguards().least(roster) >= 3
    consortium = Consortium.of(N)
    terms = consortium.terms(parameters(N))
    words = ring_words(terms, EVERYBODY)
    halves = [{c: words[c] for c in half} for half in (EVERYBODY[:5], EVERYBODY[5:])]
    for half in halves:
        outcome = play(consortium, terms, half, safeguards=Safeguards())
        assert {str(e) for e in outcome.errors.values()} == {"advertise keys: 5 clients, this client needs 6"}
        assert len(outcome.errors) == 5
        assert isinstance(outcome.end, Failed)
    assert isinstance(play(consortium, terms, halves[0]).end, Completed), "only a site's explicit choice allows it"


def test_a_second_roster_shown_to_a_client_is_refused():
    """The other way to two cohorts: two rosters. The terms must be of the roster that is shown."""
    small, large = Consortium.of(9), Consortium.of(N)
    terms = large.terms(parameters(N))
    player = Player(large.site(0), ring_words(terms, [0])[0], drbg("client"))
    with pytest.raises(Equivocation, match="names another roster than the one it shows"):
        player.react(RoundOpened(terms.to_message(), small.roster.to_bytes()))
    assert player.react(RoundOpened(terms.to_message(), large.roster.to_bytes()))


@pytest.mark.parametrize(
    ("step", "oneof", "field"),
    [
        (Step.SHARE_KEYS, "advert_list", "listed"),
        (Step.MASKED_INPUT, "share_list", "dealers"),
        (Step.CONSISTENCY_CHECK, "survivors", "survivors"),
        (Step.UNMASKING, "signature_list", "signatures"),
    ],
)
def test_lists_padded_with_doubles(step, oneof, field):
    """One client named twice would count twice: the decoder refuses it, and any order but one."""
    phase = short_round(5, until=step).end
    raw = codec.encode(ServerMessage(1, phase.announcement(0)))
    for order in ([0, 0], [1, 0]):
        message = aggregation_pb2.ServerMessage.FromString(raw)
        items = getattr(getattr(message, oneof), field)
        padded = [*(items[i] for i in order), *items[2:]]
        del items[:]
        items.extend(padded)
        with pytest.raises(MessageError, match=f"{field}: not in strictly ascending order"):
            codec.decode(ServerMessage, message.SerializeToString())
    assert codec.encode(codec.decode(ServerMessage, raw)) == raw
