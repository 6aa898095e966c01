"""Attacks on a homomorphic round, by name: a lying server with colluding clients, against real parties and clients.

What it could learn is one client's update, or the sum of fewer than the clients accepted. What nothing stops is two of
server, key holder and auditor together: SECURITY.md.
"""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from aggregator.crypto import bfv
from aggregator.errors import Disconnected, Equivocation, MessageError, NotAdmitted, RoundAborted
from aggregator.protocol import homomorphic
from aggregator.rounds.commit_input import CommitInput
from aggregator.wire.messages import AuditRequest, KeyRequest, Withdrawal
from tests import loopback
from tests.adversary import Adversary, negated
from tests.consortium import TASK
from tests.parties import ONE_SHOT, TRUST_SERVER, parameters

N = 3
ALL = (0, 1, 2)


@pytest.fixture
def evil(tmp_path):
    made = Adversary(tmp_path, N)
    yield made
    made.close()


def plain(evil, clients):
    return sum(evil.words(c).astype(np.int64) for c in clients).tolist()


async def test_the_honest_way(evil):
    named, sent, frozen = await evil.begin(ALL)
    signed = await evil.audit(named, ALL, sent)
    words = await evil.decrypt(named, ALL, evil.total(*sent.values()), (frozen, signed.signature))
    assert words.tolist() == plain(evil, ALL)


# ---------------------------------------------------------------- colluding clients


async def test_negated_sum_ciphertext(evil):
    """Client 2 cancels client 1, once it has seen its ciphertexts: but it had to commit before."""
    named, sent, _ = await evil.begin(ALL)
    sent[2] = negated(sent[1], evil.spec)
    with pytest.raises(Equivocation, match="the ciphertexts of client 2 are not those that it committed to"):
        await evil.audit(named, ALL, sent)
    with pytest.raises(Equivocation, match="another list was already frozen"):
        await evil.freeze([*named[:2], evil.commit(2, sent[2])])


async def test_negated_sum_ciphertext_where_nothing_is_frozen(tmp_path):
    """What `one-shot` gives away, as SECURITY.md says: who uploads last takes the others out of the sum."""
    evil = Adversary(tmp_path, N, parameters(parties=ONE_SHOT))
    await evil.open()
    sent = {c: evil.encrypt(c) for c in (0, 1)}
    sent[2] = negated(sent[1], evil.spec)
    named = [evil.commit(c, sent[c]) for c in ALL]
    signed = await evil.audit(named, ALL, sent)
    words = await evil.decrypt(named, ALL, evil.total(*sent.values()), (b"", signed.signature))
    assert words.tolist() == plain(evil, [0])
    evil.close()


async def test_copied_ciphertext(evil):
    """Client 2 commits to what client 1 committed to, so that the sum holds it twice."""
    await evil.open()
    sent = {c: evil.encrypt(c) for c in (0, 1)}
    named = [*(evil.commit(c, sent[c]) for c in (0, 1)), evil.commit(2, sent[1])]
    with pytest.raises(Equivocation, match="clients 1 and 2 committed to the same ciphertexts"):
        await evil.freeze(named)


async def test_copied_ciphertext_is_refused_by_an_honest_server(evil):
    """It does not even list it, so that a copier costs nobody a round."""
    await evil.open()
    phase = CommitInput(evil.consortium.setting(evil.terms), frozenset(ALL))
    phase.accept(1, evil.commit(1, b"same").commitment)
    with pytest.raises(MessageError, match="client 2 committed to ciphertexts that another client committed to before"):
        phase.accept(2, evil.commit(2, b"same").commitment)
    assert set(phase.answers) == {1}


async def test_ciphertext_of_an_earlier_round(evil):
    """Client 2 brings back what client 1 sent a round before: another key, so it is noise and gives nothing back."""
    await evil.open(1)
    earlier, key = evil.encrypt(1), evil.published.public_key
    await evil.open(2)
    assert evil.published.public_key != key
    sent = {0: evil.encrypt(0), 1: evil.encrypt(1), 2: earlier}
    named = [evil.commit(c, sent[c]) for c in ALL]
    frozen, signed = await evil.freeze(named), await evil.audit(named, ALL, sent)
    with pytest.raises(MessageError, match="sum: it is no sum of 3 clients' entries: one of them lied"):
        await evil.decrypt(named, ALL, evil.total(*sent.values()), (frozen, signed.signature))


# ---------------------------------------------------------------- the auditor


@pytest.mark.parametrize("restarts", [False, True])
async def test_second_freeze(evil, restarts):
    """Another list of the same round, with one client more or less, or under another nonce: never, restarted or not."""
    named, _, _ = await evil.begin(ALL)
    if restarts:
        evil.restart()
    for other in (named[:2], [*named[:2], evil.commit(2, b"other")]):
        with pytest.raises(Equivocation, match="another list was already frozen"):
            await evil.freeze(other)
    evil.terms = replace(evil.terms, server_nonce=bytes(32))
    with pytest.raises(Equivocation, match="another list was already frozen"):
        await evil.freeze([evil.commit(c, b"other %d" % c) for c in ALL])


async def test_the_same_list_again_is_no_second_freeze(evil):
    named, _, frozen = await evil.begin(ALL)
    assert await evil.freeze(named) == frozen


async def test_cohort_cut_after_freeze(evil):
    """Two of three would do for the task, but each client signed that it wants three."""
    named, sent, frozen = await evil.begin(ALL, minimum=3)
    with pytest.raises(RoundAborted, match="U has 2 clients, client 0 signed for at least 3"):
        await evil.audit(named, (0, 1), sent)
    total = evil.total(sent[0], sent[1])
    with pytest.raises(RoundAborted, match="U has 2 clients, client 0 signed for at least 3"):
        await evil.decrypt(named, (0, 1), total, (frozen, evil.forge_sum(named, (0, 1), total)))


async def test_cohort_below_minimum(evil):
    """One client is no sum, whatever the list was."""
    named, sent, frozen = await evil.begin(ALL)
    with pytest.raises(RoundAborted, match="U has 1 clients, the task needs at least 2"):
        await evil.audit(named, (0,), sent)
    with pytest.raises(RoundAborted, match="U has 1 clients, the task needs at least 2"):
        await evil.decrypt(named, (0,), sent[0], (frozen, evil.forge_sum(named, (0,), sent[0])))


async def test_a_lowered_minimum_is_not_the_clients(evil):
    """The server rewrites what a client signed for."""
    named, sent, _ = await evil.begin(ALL, minimum=3)
    lowered = [replace(one, commitment=replace(one.commitment, minimum_cohort=2)) for one in named]
    with pytest.raises(Equivocation, match="the commitment of client 0 is not signed by it for this round"):
        await evil.audit(lowered, (0, 1), sent)


async def test_a_list_of_invented_clients(evil):
    await evil.open()
    named = [evil.commit(0, b"0"), evil.commit(1, b"1", author=0), evil.commit(2, b"2", author=0)]
    with pytest.raises(Equivocation, match="the commitment of client 1 is not signed by it"):
        await evil.freeze(named)


async def test_u_outside_of_the_list(evil):
    named, sent, _ = await evil.begin(ALL)
    evil.restart()
    with pytest.raises(Equivocation, match="this list was never frozen here"):
        await evil.audit(named[:2], (0, 1), sent)
    with pytest.raises(Equivocation, match=r"U names clients \[5\], who are not in the list"):
        await evil.audit(named, (0, 1, 5), sent)


async def test_second_sum_of_one_round(evil):
    """The auditor signed U; a U with one client fewer would give that client's update."""
    named, sent, _ = await evil.begin(ALL)
    await evil.audit(named, ALL, sent)
    evil.restart()
    with pytest.raises(Equivocation, match="another sum was already signed"):
        await evil.audit(named, (0, 1), sent)


async def test_residues_beyond_their_primes(evil):
    await evil.open()
    sent = {c: evil.encrypt(c) for c in (0, 1)}
    sent[2] = b"\xff" * len(sent[0])
    named = [evil.commit(c, sent[c]) for c in ALL]
    await evil.freeze(named)
    with pytest.raises(MessageError, match="client 2: chunk 0: a residue is not below its prime"):
        await evil.audit(named, ALL, sent)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda sent: sent[:100], MessageError, "chunk 0 has 100 bytes, expected"),
        (lambda sent: sent[:-1], MessageError, "chunk 0 has [0-9]+ bytes, expected"),
        (lambda _: b"", Disconnected, "the stream of ciphertexts ended too early"),
        (lambda sent: sent + b"0" * 1_000_000, MessageError, "chunk 0 has 998400 bytes, expected"),
    ],
)
async def test_truncated_or_oversized_ciphertexts(evil, change, error, match):
    named, sent, _ = await evil.begin(ALL)
    with pytest.raises(error, match=match):
        await evil.audit(named, ALL, sent | {1: change(sent[1])})


# ---------------------------------------------------------------- the key holder


async def test_one_clients_ciphertext_presented_as_the_sum(evil):
    """The auditor signed the sum over all; the server has the key holder fetch one client's ciphertexts instead."""
    named, sent, frozen = await evil.begin(ALL)
    signed = await evil.audit(named, ALL, sent)
    with pytest.raises(Equivocation, match="auditor auditor did not sign this sum over these clients"):
        await evil.decrypt(named, ALL, sent[1], (frozen, signed.signature))
    with pytest.raises(Equivocation, match="the bytes of the sum are not those that were audited"):
        await evil.decrypt(named, ALL, sent[1], (frozen, signed.signature), sum_hash=signed.hash)


async def test_a_sum_without_its_auditor(evil):
    """No signature, another's signature, another auditor: nothing is decrypted, and the key is still there."""
    named, sent, frozen = await evil.begin(ALL)
    total = evil.total(*sent.values())
    with pytest.raises(Equivocation, match="did not sign this sum"):
        await evil.decrypt(named, ALL, total, (frozen, b""))
    with pytest.raises(Equivocation, match="did not freeze this list"):
        await evil.decrypt(named, ALL, total, (bytes(64), evil.forge_sum(named, ALL, total)))
    impostor = loopback.issued("second-auditor", loopback.Role.AUDITOR)
    signatures = (frozen, evil.forge_sum(named, ALL, total))
    with pytest.raises(NotAdmitted, match="the certificate of second-auditor is not the one that the round names"):
        await evil.decrypt(named, ALL, total, signatures, auditor_certificate=impostor.certificate.der)
    signed = await evil.audit(named, ALL, sent)
    assert (await evil.decrypt(named, ALL, total, (frozen, signed.signature))).tolist() == plain(evil, ALL)


@pytest.mark.parametrize("restarts", [False, True])
async def test_key_holder_second_subset(evil, restarts):
    """Even an auditor that colludes gets one decryption of each round: two would differ by one client."""
    named, sent, frozen = await evil.begin(ALL)
    signed = await evil.audit(named, ALL, sent)
    await evil.decrypt(named, ALL, evil.total(*sent.values()), (frozen, signed.signature))
    if restarts:
        evil.restart()
    total = evil.total(sent[0], sent[1])
    with pytest.raises((Equivocation, MessageError), match=r"a sum was already decrypted|has no key here"):
        await evil.decrypt(named, (0, 1), total, (frozen, evil.forge_sum(named, (0, 1), total)))


async def test_a_sum_presented_twice(evil):
    """The very same sum, to a key holder that has been started anew: its secret is gone."""
    named, sent, frozen = await evil.begin(ALL)
    signed, total = await evil.audit(named, ALL, sent), evil.total(*sent.values())
    await evil.decrypt(named, ALL, total, (frozen, signed.signature))
    for _ in range(2):
        with pytest.raises(MessageError, match="round 1 of task sepsis has no key here"):
            await evil.decrypt(named, ALL, total, (frozen, signed.signature))
        evil.restart()


async def test_a_second_key_for_one_round(evil):
    """After its decryption, or under other parameters: a (task, round) has had its key."""
    named, sent, frozen = await evil.begin(ALL)
    signed, total = await evil.audit(named, ALL, sent), evil.total(*sent.values())
    await evil.decrypt(named, ALL, total, (frozen, signed.signature))
    with pytest.raises(Equivocation, match="round 1 of task sepsis has had its key: a re-run is a new round"):
        await evil.open()


async def test_key_holder_never_loads_server_bytes(evil, monkeypatch):
    """Whatever a server and an auditor have signed, TenSEAL's loader sees only what was composed here."""
    named, _, frozen = await evil.begin(ALL)
    loaded = []
    monkeypatch.setattr(bfv.Decryptor, "decrypt", lambda self, residues: loaded.append(residues))
    size = evil.spec.upload_plan.payload_bytes
    seal = b"\x5e\xa1\x10\x04\x01\x02" + bytes(2) + size.to_bytes(8, "little")
    total = seal + b"\xff" * (size - len(seal))
    with pytest.raises(MessageError, match="a residue is not below its prime"):
        await evil.decrypt(named, ALL, total, (frozen, evil.forge_sum(named, ALL, total)))
    assert loaded == []


async def test_a_sum_under_another_rounds_key(evil):
    """The server asks for round 2's secret with what was audited in round 1."""
    named, sent, frozen = await evil.begin(ALL)
    signed, total, terms = await evil.audit(named, ALL, sent), evil.total(*sent.values()), evil.terms
    await evil.open(2)
    moved = replace(terms, round=2)
    with pytest.raises(NotAdmitted, match="round 2 has other terms than those that its key was made for"):
        await evil.decrypt(named, ALL, total, (frozen, signed.signature), terms=moved.to_message())
    with pytest.raises(MessageError, match="asked for round 2 of sepsis, shown 1 of sepsis"):
        await evil.decrypt(named, ALL, total, (frozen, signed.signature), terms=terms.to_message())


@pytest.mark.parametrize("weaker", ["no auditor", "an auditor of the server's", "other numbers", "another nonce"])
async def test_audit_downgrade_at_the_key_holder(evil, weaker):
    """Honest clients commit under one context; two corrupt ones sign another, and call client 0's input the sum."""
    _, sent, _ = await evil.begin(ALL)
    honest, key = evil.terms, evil.terms.key
    evil.terms = {
        "no auditor": replace(honest, parameters=parameters(parties=TRUST_SERVER), key=replace(key, auditor=b"")),
        "an auditor of the server's": replace(honest, key=replace(key, auditor=bytes(32))),
        "other numbers": replace(honest, parameters=parameters(clients_max=9)),
        "another nonce": replace(honest, server_nonce=bytes(32)),
    }[weaker]
    accomplices = [evil.commit(client, sent[client]) for client in (1, 2)]
    with pytest.raises(NotAdmitted, match="round 1 has other terms than those that its key was made for"):
        await evil.decrypt(accomplices, (1, 2), sent[0], (bytes(64), evil.forge_sum(accomplices, (1, 2), sent[0])))


async def test_audit_downgrade_before_the_key_is_made(evil):
    """Asked again under a weaker draft, the key holder has had its key."""
    await evil.begin(ALL)
    draft = replace(evil.draft, server_nonce=bytes(32))
    with pytest.raises(Equivocation, match="round 1 of task sepsis has had its key"):
        await evil.key_holder.answer(1, KeyRequest(draft.to_message()))


async def test_an_auditor_whose_certificate_has_ended(evil):
    """Its key may be anybody's by now."""
    named, sent, frozen = await evil.begin(ALL)
    signed = await evil.audit(named, ALL, sent)
    evil.key_holder._now = lambda: datetime(2199, 1, 1, tzinfo=UTC)
    with pytest.raises(NotAdmitted, match="expired"):
        await evil.decrypt(named, ALL, evil.total(*sent.values()), (frozen, signed.signature))


async def test_a_client_twice_in_u(evil):
    """The codec takes no such list; nor would the parties, if it did."""
    named, sent, _ = await evil.begin(ALL)
    with pytest.raises(Equivocation, match="U names a client twice, or out of order"):
        await evil.audit(named, (0, 0, 0), sent)


async def test_a_sum_that_is_too_large_for_the_party_ends_the_round_only(evil, monkeypatch):
    """What the parameters name may be more than there is."""
    named, sent, _ = await evil.begin(ALL)
    told = []

    def refuse(*_):
        raise MemoryError

    async def send(number, body):
        told.append(body)

    monkeypatch.setattr(homomorphic, "Total", refuse)
    monkeypatch.setattr(evil.auditor._line, "send", send)
    evil.shown.octets = sent
    await evil.auditor._respond(1, AuditRequest(evil.terms.to_message(), evil._roster, tuple(named), ALL))
    assert told == [Withdrawal("the round's sum is too large for this party's memory")]


async def test_trust_server_needs_no_auditor_but_enough_clients(tmp_path):
    evil = Adversary(tmp_path, N, parameters(parties=TRUST_SERVER))
    await evil.open()
    sent = {c: evil.encrypt(c) for c in ALL}
    named = [evil.commit(c, sent[c], 3) for c in ALL]
    with pytest.raises(RoundAborted, match="U has 2 clients, client 0 signed for at least 3"):
        await evil.decrypt(named, (0, 1), evil.total(sent[0], sent[1]), (b"", b""))
    words = await evil.decrypt(named, ALL, evil.total(*sent.values()), (b"", b""))
    assert words.tolist() == plain(evil, ALL)
    evil.close()


@pytest.mark.parametrize("restarts", [False, True])
async def test_key_holder_that_died_while_it_decrypted(evil, restarts):
    """It wrote down what it would decrypt, and no more is known: nothing else will be, and the secret goes."""
    named, sent, frozen = await evil.begin(ALL)
    signed, total = await evil.audit(named, ALL, sent), evil.total(*sent.values())
    evil.key_holder._ledger.release(("demo", TASK, 1), signed.hash)
    if restarts:
        evil.restart()
    with pytest.raises((Equivocation, MessageError), match=r"a sum was already decrypted|has no key here"):
        await evil.decrypt(named, ALL, total, (frozen, signed.signature))
