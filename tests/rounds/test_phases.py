"""Each phase alone: what it takes, what it refuses by name, and that a refusal changes nothing."""

import dataclasses
import gc
from functools import partial

import numpy as np
import pytest

from aggregator.errors import Disconnected, Equivocation, MessageError, OutOfTurn, Overloaded, StorageError
from aggregator.rounds.advertise_keys import AdvertiseKeys
from aggregator.rounds.consistency_check import ConsistencyCheck
from aggregator.rounds.masked_input import MaskedInput
from aggregator.rounds.phase import Failed
from aggregator.rounds.share_keys import ShareKeys
from aggregator.rounds.unmasking import Unmasking
from aggregator.storage.spool import MemorySpool
from aggregator.wire.codec import decode, encode
from aggregator.wire.messages import (
    Advert,
    Chunk,
    Complaint,
    Dealing,
    ReceivedEnvelope,
    RevealedShare,
    ServerMessage,
    SurvivorSignature,
    Withdrawal,
)
from aggregator.wire.messages import Unmasking as UnmaskingAnswer
from aggregator.wire.vocabulary import MASKED_STEPS, Step
from tests.consortium import Consortium
from tests.harness import deliver, parameters, play, ring_words, short_round

N = 5
KINDS = {
    Step.ADVERTISE_KEYS: AdvertiseKeys,
    Step.SHARE_KEYS: ShareKeys,
    Step.MASKED_INPUT: MaskedInput,
    Step.CONSISTENCY_CHECK: ConsistencyCheck,
    Step.UNMASKING: Unmasking,
}
STRAYS = (
    Advert(*[bytes(32)] * 4, bytes(64)),
    Dealing((), bytes(64)),
    SurvivorSignature(bytes(64)),
    UnmaskingAnswer((), ()),
    Withdrawal(""),
)
OWN = {
    Step.ADVERTISE_KEYS: Advert,
    Step.SHARE_KEYS: Dealing,
    Step.CONSISTENCY_CHECK: SurvivorSignature,
    Step.UNMASKING: UnmaskingAnswer,
}


@pytest.mark.parametrize("step", MASKED_STEPS)
def test_a_phase_takes_its_own_message_of_its_own_members(step):
    outcome = short_round(N, stops={4: "advertise_keys"}, until=step)
    phase = outcome.end
    assert type(phase) is KINDS[step]
    for stray in STRAYS:
        if not isinstance(stray, OWN.get(step, type(None))):
            with pytest.raises(OutOfTurn, match=f"{step}: client 0 sent {type(stray).__name__}, which belongs"):
                phase.accept(0, stray)
    if step is not Step.ADVERTISE_KEYS:
        assert phase.members == {0, 1, 2, 3}
        with pytest.raises(OutOfTurn, match=f"{step}: client 4 is not in this step"):
            phase.accept(4, STRAYS[0])
    assert phase.awaited == phase.members
    assert not phase.ready


@pytest.mark.parametrize("step", [step for step in MASKED_STEPS if step is not Step.MASKED_INPUT])
def test_an_invalid_answer_is_refused_and_a_valid_one_still_taken(step):
    outcome = short_round(N, until=step)
    phase = outcome.end
    answers = [outcome.players[c].react(phase.announcement(c))[0] for c in range(2)]
    changes = {
        Step.ADVERTISE_KEYS: {"nonce": bytes(32)},
        Step.SHARE_KEYS: {"envelopes": getattr(answers[0], "envelopes", ())[::-1]},
        Step.CONSISTENCY_CHECK: {"signature": bytes(64)},
        Step.UNMASKING: {"self_seed_shares": (RevealedShare(1, bytes(32)),)},
    }
    for wrong in (dataclasses.replace(answers[0], **changes[step]), answers[1]):
        with pytest.raises(MessageError, match=r"client [01]"):
            phase.accept(0, wrong)
    assert not phase.answers
    assert phase.accept(0, answers[0])
    assert not phase.accept(0, answers[0])
    assert phase.awaited == phase.members - {0}
    if step is not Step.UNMASKING:
        with pytest.raises(MessageError):
            phase.accept(0, answers[1])
    assert phase.answers == {0: answers[0]}


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Step.ADVERTISE_KEYS, "advertise keys: 0 clients, need 2"),
        (Step.SHARE_KEYS, "share keys: 0 clients, need 4"),
        (Step.MASKED_INPUT, "masked input: 0 clients, need 4"),
        (Step.CONSISTENCY_CHECK, "consistency check: 0 signatures, need 4"),
        (Step.UNMASKING, "unmasking: 0 shares for client 0, need 4"),
    ],
)
def test_a_step_that_nobody_answers_ends_the_round_by_name(step, reason):
    outcome = short_round(N, stops=dict.fromkeys(range(N), step))
    assert outcome.end == Failed(step, reason)
    assert not outcome.setting.spool.held_bytes


@pytest.mark.parametrize("step", MASKED_STEPS)
def test_an_announcement_is_the_same_however_often_it_is_asked(step):
    phase = short_round(N, until=step).end
    assert phase.announcement(1) == phase.announcement(1)


def test_ready_says_what_is_enough():
    """Of five: two adverts (the task's minimum), then four dealings, inputs, signatures and answers (t)."""
    enough = dict(zip(MASKED_STEPS, (2, 4, 4, 4, 4), strict=True))
    for step in MASKED_STEPS:
        outcome = short_round(N, until=step)
        phase = outcome.end
        for client in range(N):
            deliver(outcome, phase, client, outcome.players[client].react(phase.announcement(client)))
            assert phase.ready == (client + 1 >= enough[step]), step


def test_a_round_has_room_for_clients_max():
    consortium = Consortium.of(N)
    terms = consortium.terms(parameters(3))
    outcome = play(consortium, terms, ring_words(terms, range(N)), until=Step.ADVERTISE_KEYS)
    phase, announced = outcome.end, outcome.end.announcement(0)
    for client in range(3):
        assert phase.awaited == set(range(client, N))
        deliver(outcome, phase, client, outcome.players[client].react(announced))
    assert phase.awaited == set(), "nobody waits for whom there is no room"
    with pytest.raises(Overloaded, match="the round is full: its sum holds at most 3 clients"):
        deliver(outcome, phase, 3, outcome.players[3].react(announced))
    assert phase.finish().members == {0, 1, 2}


def test_a_dealing_has_one_envelope_per_holder_of_the_right_length():
    outcome = short_round(N, until=Step.SHARE_KEYS)
    (dealing,) = outcome.players[1].react(outcome.end.announcement(1))
    own, first = dealing.envelopes[1], dealing.envelopes[0]
    with pytest.raises(MessageError, match="client 1 dealt 4 envelopes to 5 holders"):
        outcome.end.accept(1, dataclasses.replace(dealing, envelopes=dealing.envelopes[1:]))
    with pytest.raises(MessageError, match="client 1 dealt 6 envelopes to 5 holders"):
        outcome.end.accept(1, dataclasses.replace(dealing, envelopes=(*dealing.envelopes, first)))
    short = dataclasses.replace(first, ciphertext=first.ciphertext[:-1])
    with pytest.raises(MessageError, match="client 1: the share for holder 0 has a wrong length"):
        outcome.end.accept(1, dataclasses.replace(dealing, envelopes=(short, *dealing.envelopes[1:])))
    full = dataclasses.replace(own, ciphertext=first.ciphertext)
    with pytest.raises(MessageError, match="client 1: the share for holder 1 has a wrong length"):
        outcome.end.accept(1, dataclasses.replace(dealing, envelopes=(first, full, *dealing.envelopes[2:])))
    assert outcome.end.accept(1, dealing)


@pytest.fixture
def inputs():
    """Four clients with inputs of two chunks each, about to upload."""
    outcome = short_round(4, 600_000, until=Step.MASKED_INPUT)
    return outcome, outcome.end, {c: p.react(outcome.end.announcement(c)) for c, p in outcome.players.items()}


def test_an_upload_of_a_false_length_is_refused_before_any_byte(inputs):
    _, phase, answers = inputs
    header = answers[0][0]
    for size in (1, header.payload_bytes - 1, header.payload_bytes + 1, 10**9):
        with pytest.raises(MessageError, match=f"client 0 announces {size} bytes, this round's input has 1350005"):
            phase.begin(0, dataclasses.replace(header, payload_bytes=size))
    with pytest.raises(OutOfTurn, match="client 7 is not in this step"):
        phase.begin(7, header)


def test_surplus_missing_swapped_and_short_chunks_are_refused(inputs):
    outcome, phase, answers = inputs
    header, first, last = answers[0]
    upload = phase.begin(0, header)
    for wrong, named in (
        (last, "chunk 1 arrived, expected chunk 0"),
        (Chunk(0, first.data[:-1]), "chunk 0 has"),
        (Chunk(0, last.data), "chunk 0 has"),
    ):
        with pytest.raises(MessageError, match=named):
            phase.receive(upload, wrong)
    phase.receive(upload, first)
    with pytest.raises(MessageError, match="chunk 0 arrived, expected chunk 1"):
        phase.receive(upload, first)
    phase.receive(upload, last)
    with pytest.raises(MessageError, match="chunk 2 is surplus: the payload has 2 chunks"):
        phase.receive(upload, Chunk(2, b"x"))
    phase.commit(upload)
    assert set(phase.answers) == {0}
    with pytest.raises(MessageError, match="client 1 sent 0 of 2 chunks"):
        phase.commit(phase.begin(1, answers[1][0]))
    assert set(phase.answers) == {0}
    assert not outcome.setting.spool.held_bytes


def test_an_upload_goes_on_over_another_stream_and_counts_once(inputs):
    outcome, phase, answers = inputs
    header, first, last = answers[0]
    spool = outcome.setting.spool
    broken = phase.begin(0, header)
    assert phase.bytes_left(broken) == header.payload_bytes
    phase.receive(broken, first)
    again = phase.begin(0, header)
    assert again.chunks == 1
    assert phase.bytes_left(again) == len(last.data)
    for act in (partial(phase.receive, broken, last), partial(phase.commit, broken)):
        with pytest.raises(Disconnected, match="client 0: a newer stream takes this upload's place"):
            act()
    phase.abandon(broken)
    assert spool.held_bytes == len(first.data), "what a dead stream leaves behind does no harm to the newer one"
    with pytest.raises(MessageError, match="chunk 0 arrived, expected chunk 1"):
        phase.receive(again, first)
    phase.receive(again, last)
    assert phase.bytes_left(again) == 0
    assert not phase.answers
    phase.commit(again)
    assert set(phase.answers) == {0}
    assert not spool.held_bytes
    assert phase.begin(0, header) is None


def test_another_upload_of_the_same_client_starts_over(inputs):
    outcome, phase, answers = inputs
    header, first, _ = answers[0]
    phase.receive(phase.begin(0, header), first)
    other = dataclasses.replace(header, upload_id=b"another masking.")
    assert phase.begin(0, other).chunks == 0
    assert not outcome.setting.spool.held_bytes, "the old one was destroyed"
    with pytest.raises(Equivocation, match="client 0 goes on with its upload under another header"):
        phase.begin(0, dataclasses.replace(other, complaints=(honest_complaint(outcome),)))
    assert phase.begin(1, answers[1][0]).chunks == 0, "ids of other clients mean nothing"


def honest_complaint(outcome):
    """Client 0 received this very share."""
    envelope = outcome.end.announcement(0).envelopes[-1]
    return Complaint(envelope.dealer, envelope.envelope.ciphertext)


def test_received_envelopes_are_put_together_for_who_looks_at_them():
    """Of all clients at once they are n·k objects, in memory until the step ends."""
    before = sum(type(one) is ReceivedEnvelope for one in gc.get_objects())
    phase = short_round(N, stops={2: "share_keys"}, until=Step.MASKED_INPUT).end
    shown = {client: phase.announcement(client).envelopes for client in phase.members}
    assert sum(type(one) is ReceivedEnvelope for one in gc.get_objects()) == before
    for client, envelopes in shown.items():
        sent = decode(ServerMessage, encode(ServerMessage(1, phase.announcement(client)))).body.envelopes
        assert [item.dealer for item in sent] == sorted(phase.members - {client})
        assert tuple(envelopes) == envelopes[:] == sent
        assert (envelopes[-1], envelopes[1:], len(envelopes)) == (sent[-1], sent[1:], len(sent))
        with pytest.raises(IndexError):
            envelopes[len(sent)]


def test_all_that_is_half_arrived_can_be_destroyed(inputs):
    outcome, phase, answers = inputs
    begun = [phase.begin(client, answers[client][0]) for client in range(3)]
    for client, upload in enumerate(begun):
        phase.receive(upload, answers[client][1])
    phase.abandon_all()
    assert not outcome.setting.spool.held_bytes
    for upload in begun:
        with pytest.raises(OutOfTurn, match="this step of the round is over"):
            phase.receive(upload, answers[upload.client][2])


def test_bits_beyond_the_last_word_are_refused():
    """Values outside the ring cannot be said in w bits; only the last byte's filling could hold more."""
    outcome = short_round(4, 1, until=Step.MASKED_INPUT)
    header, chunk = outcome.players[0].react(outcome.end.announcement(0))
    assert (outcome.terms.parameters.entries, outcome.terms.parameters.ring_bits) == (3, 18)  # 54 bits in 7 bytes
    for bit in (6, 7):
        data = bytearray(chunk.data)
        data[-1] |= 1 << bit
        with pytest.raises(MessageError, match=r"client 0: chunk \d+: bits beyond the last word of the ring"):
            deliver(outcome, outcome.end, 0, (header, Chunk(0, bytes(data))))
    assert deliver(outcome, outcome.end, 0, (header, chunk))


class FailingSpool(MemorySpool):
    """A disk, or a memory, that fails when chunk `at` is read back."""

    def __init__(self, at, error):
        super().__init__()
        self.at, self.error = at, error

    def stage(self):
        staged = super().stage()
        plain, reads = staged.read, iter(range(99))

        def read(start, size):
            if next(reads) == self.at:
                raise self.error
            return plain(start, size)

        staged.read = read
        return staged


@pytest.mark.parametrize("error", [StorageError("Input/output error"), MemoryError("Input/output error")])
@pytest.mark.parametrize("at", [0, 1])
def test_a_failure_while_an_upload_is_added_never_gives_a_wrong_sum(at, error):
    outcome = short_round(4, 600_000, until=Step.MASKED_INPUT)
    phase = outcome.end
    good = phase._setting
    for client in range(4):
        spool = FailingSpool(at, error) if client == 1 else good.spool
        phase._setting = dataclasses.replace(good, spool=spool)
        answer = outcome.players[client].react(phase.announcement(client))
        if client == 1:
            with pytest.raises(type(error), match="Input/output error"):
                deliver(outcome, phase, client, answer)
        else:
            assert deliver(outcome, phase, client, answer)
    end = phase.finish()
    assert isinstance(end, Failed)
    assert "the input of client 1 was only half added" in end.reason


def test_uploads_beyond_the_budget_go_to_disk_and_come_back(tmp_path):
    consortium = Consortium.of(4)
    terms = consortium.terms(parameters(4, 600_000))
    words = ring_words(terms, range(4))
    outcome = play(consortium, terms, words, until=Step.MASKED_INPUT)
    phase = outcome.end
    spool = MemorySpool(budget_bytes=1_100_000, directory=tmp_path)
    phase._setting = dataclasses.replace(phase._setting, spool=spool)
    begun, sent = [], []
    for client in range(4):
        header, *chunks = outcome.players[client].react(phase.announcement(client))
        sent.append(chunks)
        begun.append(phase.begin(client, header))
        for chunk in chunks:
            phase.receive(begun[-1], chunk)
    assert spool.held_bytes < 1_100_000
    for upload in begun:
        phase.commit(upload)
    assert spool.held_bytes == 0
    assert not list(tmp_path.iterdir())
    after = phase.finish()
    assert isinstance(after, ConsistencyCheck)
    total = after._total.open(lambda words, ring_bits: words, bytes(32), map)
    assert (total % 2**18).tolist() == (sum(unpacked(chunks) for chunks in sent) % 2**18).tolist()


def unpacked(chunks):
    """600,002 words of 18 bits, bit by bit."""
    stream = np.frombuffer(b"".join(chunk.data for chunk in chunks), np.uint8)
    bits = np.unpackbits(stream, bitorder="little", count=600_002 * 18).reshape(-1, 18)
    return bits @ (1 << np.arange(18))
