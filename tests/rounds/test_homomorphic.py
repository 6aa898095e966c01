"""A homomorphic round with real clients, key holder and auditor, all in memory; every message through the codec."""

from dataclasses import replace

import numpy as np
import pytest

from aggregator.errors import MessageError, OutOfTurn, RoundAborted
from aggregator.protocol.participant import Safeguards
from aggregator.protocol.parties import AUDITOR, KEY_HOLDER
from aggregator.rounds.commit_input import CommitInput
from aggregator.rounds.freeze import Freeze
from aggregator.rounds.phase import Completed, Failed
from aggregator.rounds.publish_key import PublishKey
from aggregator.rounds.upload import Frozen, UploadCiphertexts
from aggregator.wire.messages import (
    AuditRequest,
    Chunk,
    CiphertextsRequest,
    KeyRequest,
    ListSignature,
    PublishedKey,
    SumSignature,
    UploadHeader,
)
from clients.result import RoundResult
from native.pack import pack
from tests.adversary import Adversary
from tests.consortium import TASK
from tests.loopback import BRISK, offers, until
from tests.memory import Room
from tests.parties import ANY_AUDIT, FROZEN, ONE_SHOT, TRUST_SERVER, attending, parameters

N = 4
ALL = tuple(range(N))
SUM = CiphertextsRequest(TASK, 1, whole_sum=True)


@pytest.mark.parametrize("parties", [FROZEN, ONE_SHOT, TRUST_SERVER], ids=lambda parties: parties.audit)
async def test_a_whole_round(tmp_path, parties, caplog):
    room = Room(tmp_path, N, spec=parameters(parties=parties))
    async with attending(room, who=tuple(parties.names)) as staff:
        ends = await room.play(offers(N), how={c: {"safeguards": ANY_AUDIT} for c in range(N)})
        await until_destroyed(staff)
    assert isinstance(room.end, Completed), room.end
    assert all(isinstance(end, RoundResult) for end in ends.values()), ends
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == (0 if parties is FROZEN else 2 + N), said  # the task, each client, the key holder
    assert all(f"is audited {parties.audit}" in one for one in said)
    kinds = [type(body).__name__ for body in staff.transports[KEY_HOLDER].sent]
    assert kinds == ["Join", "PublishedKey"]  # and one upload of words
    assert len(staff.transports[KEY_HOLDER].uploads) == 1


async def until_destroyed(staff):
    """The key holder has heard that the round is over."""
    key = ("demo", TASK, 1)
    await until(lambda: staff.ledgers[KEY_HOLDER].published(key) is None)


async def test_a_client_whose_minimum_is_not_met_is_left_out_and_the_rest_goes_on(tmp_path):
    """Site 3 wants four; site 2 drops: so the sum holds sites 0 and 1, and is added again without site 3."""
    room = Room(tmp_path, N, spec=parameters(), deadlines=replace(BRISK, masked_input_s=0.5))
    wants = {c: {"safeguards": Safeguards(minimum_cohort=4 if c == 3 else 2)} for c in range(N)}

    def vanish(message):
        if type(message.body).__name__ == "FrozenList":
            raise RuntimeError("vanished")
        yield message

    async with attending(room):
        ends = await room.play(offers(N), how=wants, lies={2: vanish})
    assert isinstance(room.end, Completed), room.end
    assert room.end.survivors == (0, 1)
    assert isinstance(ends[3], RoundAborted)
    for client in (0, 1):
        assert ends[client].participants == ("site-0000", "site-0001")
        assert ends[client].total_weight == 21


class Server:
    """A round's phases by hand, its answers from an `Adversary` who does as it should."""

    def __init__(self, evil):
        self.evil = evil
        self.setting = replace(evil.consortium.setting(evil.terms), attending=evil.attending)

    async def uploading(self):
        named, self.sent, signature = await self.evil.begin(ALL)
        self.setting = replace(self.setting, terms=self.evil.terms)
        self.named = named
        return UploadCiphertexts(self.setting, frozenset(ALL), Frozen(self.evil.listed(named), signature))

    def upload(self, phase, client, payload):
        plan = self.evil.spec.upload_plan
        upload = phase.begin(client, UploadHeader(TASK, 1, plan.payload_bytes, (), bytes([client]) * 16))
        for chunk in plan.cut(memoryview(payload)):
            phase.receive(upload, chunk)
        phase.commit(upload)

    async def auditing(self):
        phase = await self.uploading()
        for client in ALL:
            self.upload(phase, client, self.sent[client])
        return phase.finish()


@pytest.fixture
async def server(tmp_path):
    evil = Adversary(tmp_path, N)
    await evil.open(9)
    yield Server(evil)
    evil.close()


async def test_other_ciphertexts_than_committed_to_are_destroyed_and_refused_again(server):
    phase = await server.uploading()
    for _ in range(2):
        with pytest.raises(MessageError, match="client 1 uploaded other ciphertexts than it committed to"):
            server.upload(phase, 1, server.sent[2])
    assert not phase.answers
    assert server.setting.spool.held_bytes == 0
    server.upload(phase, 2, server.sent[2])
    assert set(phase.answers) == {2}


async def test_what_is_staged_goes_when_the_auditor_has_signed_or_the_round_ends(server):
    phase = await server.uploading()
    for client in ALL[:3]:
        server.upload(phase, client, server.sent[client])
    assert server.setting.spool.held_bytes == 3 * server.evil.spec.upload_plan.payload_bytes
    audit = phase.finish()
    assert server.setting.spool.held_bytes == 3 * server.evil.spec.upload_plan.payload_bytes
    signed = await server.evil.audit(server.named, ALL[:3], server.sent)
    assert audit.accept(AUDITOR, signed)
    audit.finish()
    assert server.setting.spool.held_bytes == 0
    phase.close()


async def test_who_may_read_what_and_when(server):
    audit = await server.auditing()
    one = CiphertextsRequest(TASK, 1, whole_sum=False, client=1)
    assert bytes(audit.chunk(AUDITOR, one, 0).data) == server.sent[1]
    for member, request in ((KEY_HOLDER, one), (KEY_HOLDER, SUM), (AUDITOR, SUM), (0, one)):
        with pytest.raises(OutOfTurn, match="ciphertexts of clients are for the auditor"):
            audit.chunk(member, request, 0)
    with pytest.raises(MessageError, match="there is no chunk 0 of client 9"):
        audit.chunk(AUDITOR, replace(one, client=9), 0)
    signed = await server.evil.audit(server.named, ALL, server.sent)
    audit.accept(AUDITOR, signed)
    decrypt = audit.finish()
    assert bytes(decrypt.chunk(KEY_HOLDER, SUM, 0).data) == server.evil.total(*server.sent.values())
    for member, request in ((KEY_HOLDER, one), (AUDITOR, SUM), (0, SUM)):
        with pytest.raises(OutOfTurn, match="the sum is for the key holder, and nothing else is"):
            decrypt.chunk(member, request, 0)
    with pytest.raises(MessageError, match="there is no chunk 1 of the sum"):
        decrypt.chunk(KEY_HOLDER, SUM, 1)


async def test_false_answers_of_the_parties_are_refused_and_true_ones_still_taken(server):
    evil = server.evil
    keys = PublishKey(replace(server.setting, terms=replace(evil.terms, key=None)))
    with pytest.raises(MessageError, match="the public key is not signed by key holder key-holder for round"):
        keys.accept(KEY_HOLDER, replace(evil.published, custodians=9))
    assert keys.accept(KEY_HOLDER, evil.published)
    assert isinstance(keys.finish(), CommitInput)

    audit = await server.auditing()
    freeze = Freeze(server.setting, evil.listed(server.named))
    with pytest.raises(MessageError, match="auditor auditor signed another list than it was shown"):
        freeze.accept(AUDITOR, ListSignature(bytes(64)))
    signed = await evil.audit(server.named, ALL, server.sent)
    for wrong, said in (
        (SumSignature(bytes(32), signed.signature), "came to another sum"),
        (SumSignature(signed.hash, bytes(64)), "signed another sum than it was shown"),
    ):
        with pytest.raises(MessageError, match=said):
            audit.accept(AUDITOR, wrong)
    assert audit.accept(AUDITOR, signed)
    decrypt = audit.finish()
    plan = evil.spec.result_plan
    upload = decrypt.begin(KEY_HOLDER, UploadHeader(TASK, 1, plan.payload_bytes, (), bytes(16)))
    with pytest.raises(MessageError, match="key-holder: chunk 0: bits beyond the last word of the sum"):
        decrypt.receive(upload, Chunk(0, b"\xff" * plan.payload_bytes))
    words = np.full(evil.spec.entries, 2**evil.spec.ring_bits - 1, np.uint32)
    decrypt.receive(upload, Chunk(0, pack(words, evil.spec.ring_bits).data))
    with pytest.raises(MessageError, match="the key holder gave words that no sum of 4 clients has"):
        decrypt.commit(upload)
    assert not decrypt.ready


@pytest.mark.parametrize("reason", ["", "no such key"])
async def test_a_party_that_refuses_ends_the_round_by_name(server, reason):
    audit = await server.auditing()
    if reason:
        audit.note_withdrawal(AUDITOR, reason)
    end = audit.finish()
    assert isinstance(end, Failed)
    assert end.reason == (f"audit: auditor refuses: {reason}" if reason else "audit: auditor did not answer")


async def test_requests_are_the_same_however_often_they_are_asked(server):
    audit = await server.auditing()
    assert isinstance(audit.announcement(AUDITOR), AuditRequest)
    assert audit.announcement(AUDITOR) == audit.announcement(AUDITOR)


async def test_a_key_that_comes_again_is_the_same(server):
    again = await server.evil.key_holder.answer(9, key_request(server.evil))
    assert isinstance(again, PublishedKey)
    assert again == server.evil.published
    server.evil.restart()
    assert await server.evil.key_holder.answer(9, key_request(server.evil)) == server.evil.published


def key_request(evil):
    return KeyRequest(evil.draft.to_message())
