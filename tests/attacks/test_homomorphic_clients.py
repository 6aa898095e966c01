"""Attacks on the clients of a homomorphic round: what a server says to them, alone or in league with the auditor."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from aggregator.crypto.authority import create_authority as found_authority
from aggregator.crypto.authority import issue
from aggregator.crypto.authority import request as make_request
from aggregator.errors import Equivocation, NotAdmitted, ParameterError, RoundAborted
from aggregator.protocol import homomorphic_coordinator
from aggregator.protocol import homomorphic_participant as client
from aggregator.protocol.participant import Safeguards, enter
from aggregator.protocol.parties import AUDITOR, KEY_HOLDER
from aggregator.wire.messages import DecryptionRequest, FrozenList, NamedCommitment, RoundOpened
from clients.result import RoundResult
from tests import loopback
from tests.adversary import Adversary
from tests.loopback import BRISK, offers
from tests.memory import Room, instead
from tests.parties import NAMES, ONE_SHOT, attending, identity, parameters

N = 3
ALL = (0, 1, 2)


@pytest.fixture
def evil(tmp_path):
    made = Adversary(tmp_path, N)
    yield made
    made.close()


async def refused_by_client(tmp_path, kind, forge, error, match, **how):
    """Client 0 hears a lie; it says why, and nothing of its update leaves."""
    room = Room(tmp_path, N, spec=parameters(), deadlines=replace(BRISK, advertise_keys_s=0.5, masked_input_s=0.5))
    async with attending(room):
        ends = await room.play(offers(N), lies={0: instead(kind, forge)}, how={0: how})
    assert isinstance(ends[0], error), ends[0]
    assert match in str(ends[0])
    assert room.transports[0].uploads == []


async def test_the_list_was_not_frozen_by_the_auditor(tmp_path):
    forge = lambda body: replace(body, signature=bytes(64))  # noqa: E731
    await refused_by_client(tmp_path, FrozenList, forge, Equivocation, "auditor auditor did not freeze this list")


async def test_the_list_without_this_client(tmp_path):
    forge = lambda body: replace(body, commitments=body.commitments[1:])  # noqa: E731
    await refused_by_client(tmp_path, FrozenList, forge, Equivocation, "did not freeze this list")


@pytest.mark.parametrize("number", [KEY_HOLDER, AUDITOR])
async def test_a_party_of_the_servers_own(tmp_path, number):
    """A certificate of the consortium in the right role, but not the one that the task and ctx0 name."""
    other = loopback.issued(f"second-{NAMES[number]}", identity(number).certificate.role).certificate
    field = "key_holder_certificate" if number == KEY_HOLDER else "auditor_certificate"

    def forge(body):
        return replace(body, key=(replace(body.key[0], **{field: other.der}),))

    await refused_by_client(tmp_path, RoundOpened, forge, NotAdmitted, f"{other.name} is not the one that the round")


async def test_a_public_key_of_the_servers_own(tmp_path):
    """It would read every ciphertext."""

    def forge(body):
        (key,) = body.key
        return replace(body, key=(replace(key, published=replace(key.published, public_key=b"its own")),))

    await refused_by_client(
        tmp_path, RoundOpened, forge, Equivocation, "names another public key than the one it shows"
    )


async def test_a_weaker_audit_than_this_site_accepts(tmp_path):
    room = Room(tmp_path, N, spec=parameters(parties=ONE_SHOT), deadlines=replace(BRISK, masked_input_s=0.5))
    async with attending(room):
        ends = await room.play(offers(N))
    for end in ends.values():
        assert isinstance(end, ParameterError)
        assert "the round is audited one-shot: this site takes no part in that" in str(end)


async def test_rerun_with_one_fewer(tmp_path):
    """The ciphertexts have left, and the server says that the round failed: it is a site's own choice to go on."""

    def hush(message):
        return () if isinstance(message.body, DecryptionRequest) else (message,)

    room = Room(tmp_path, N, spec=parameters(), deadlines=replace(BRISK, party_s=0.5))
    async with attending(room, lies={KEY_HOLDER: hush}):
        ends = await room.play(offers(N))
    assert all("decrypt: key-holder did not answer" in str(end) for end in ends.values()), ends
    again = Room(tmp_path, N, spec=parameters(), first_round=2)
    async with attending(again):
        ends = await again.play({c: offers(N)[c] for c in (0, 1)})
    for end in ends.values():
        assert isinstance(end, ParameterError)
        assert "contributing again is a choice: pass again='the reason'" in str(end)


async def test_same_round_in_two_modes(tmp_path):
    """Round 1 of a task in homomorphic mode, and again in a masked one: the task is not what this site agreed to."""
    room = Room(tmp_path, N, spec=parameters())
    async with attending(room):
        ends = await room.play(offers(N))
    assert all(isinstance(end, RoundResult) for end in ends.values())
    masked = Room(tmp_path, N, spec=loopback.parameters(), deadlines=replace(BRISK, advertise_keys_s=0.5))
    ends = await masked.play(offers(N), base={"another": [1.0]})
    for end in ends.values():
        assert isinstance(end, Equivocation)
        assert "has other parameters than this site agreed to" in str(end)


# ---------------------------------------------------------------- clients, where server and auditor collude


def keyed(evil, minimum=2, **announced):
    """Client 0, when it has heard of a round; what it is told may be changed."""
    site = evil.consortium.site(0, Safeguards(minimum_cohort=minimum))
    told = homomorphic_coordinator.announced_key(evil.attending, evil.published)
    return client.accept_key(
        enter(evil.terms, evil.consortium.roster, site), replace(told, **announced), site.authority
    )


def signed_list(evil, named):
    return FrozenList(tuple(named), evil.forge_list(named))


async def test_a_list_without_this_client_that_the_auditor_signed(evil):
    """Or with another commitment in its name, which only it could have signed: an earlier minimum, say."""
    await evil.open()
    state = client.commit_input(keyed(evil), b"c" * 32)
    others = [evil.commit(c, b"%d" % c) for c in (1, 2)]
    for named in (others, [evil.commit(0, b"other"), *others]):
        with pytest.raises(Equivocation, match="client 0: the frozen list does not hold this client's own commitment"):
            client.check_frozen(state, signed_list(evil, named))


async def test_a_list_below_this_clients_minimum(evil):
    await evil.open()
    mine = evil.encrypt(0)
    state = client.commit_input(keyed(evil, minimum=3), sha256(mine).digest())
    named = [NamedCommitment(0, state.commitment), evil.commit(1, b"1")]
    with pytest.raises(RoundAborted, match="freeze: 2 clients, this client needs 3"):
        client.check_frozen(state, signed_list(evil, named))


async def test_a_public_key_that_its_holder_did_not_sign(evil):
    """Signed for another custody, so for nothing that this client was told."""
    await evil.open()
    with pytest.raises(Equivocation, match="the public key of round 1 is not signed by key holder key-holder for it"):
        keyed(evil, published=replace(evil.published, custody_threshold=1))


async def test_parties_of_another_authority(evil):
    """The server founds a consortium of the same name, and puts its own key holder into the terms."""
    await evil.open()
    own = found_authority("demo", datetime.now(UTC), timedelta(days=1))
    key_pem, request = make_request("key-holder", loopback.Role.KEY_HOLDER, "demo")
    rogue = issue(own, request, datetime.now(UTC), valid_for=timedelta(hours=1), role=loopback.Role.KEY_HOLDER)
    evil.terms = replace(evil.terms, key=replace(evil.terms.key, key_holder=rogue.fingerprint))
    with pytest.raises(NotAdmitted, match="the certificate of key-holder was not issued by this consortium"):
        keyed(evil, key_holder_certificate=rogue.der)
    assert key_pem


async def test_an_auditor_in_the_key_holders_place(evil):
    await evil.open()
    auditor = evil.attending[AUDITOR]
    evil.terms = replace(evil.terms, key=replace(evil.terms.key, key_holder=auditor.fingerprint))
    with pytest.raises(NotAdmitted, match="auditor is certified as auditor, the round needs a key-holder"):
        keyed(evil, key_holder_certificate=auditor.der)


async def test_a_round_that_names_other_parties(evil):
    """Both parties refuse to serve a round whose ctx0 does not hold their own certificates."""
    named, sent, frozen = await evil.begin(ALL)
    total, terms = evil.total(*sent.values()), evil.terms
    for field, ask in (
        ("key_holder", lambda: evil.decrypt(named, ALL, total, (frozen, evil.forge_sum(named, ALL, total)))),
        ("auditor", lambda: evil.freeze(named)),
        ("auditor", lambda: evil.audit(named, ALL, sent)),
    ):
        evil.terms = replace(terms, key=replace(terms.key, **{field: bytes(32)}))
        with pytest.raises(NotAdmitted, match=r"does not name (key-holder|auditor) as its"):
            await ask()
