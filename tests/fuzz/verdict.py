"""What must hold after a sequence, whoever did what in it."""

from typing import TYPE_CHECKING

from aggregator.protocol.parameters import Mode
from aggregator.protocol.parties import KEY_HOLDER
from aggregator.rounds.driver import EVENTS_PER_CLIENT_MAX
from aggregator.rounds.phase import Completed
from aggregator.wire.messages import UploadHeader
from aggregator.wire.vocabulary import HOMOMORPHIC_STEPS, EventKind
from tests.reference import packing

if TYPE_CHECKING:
    from tests.fuzz.stage import Stage


def check(stage: "Stage") -> None:
    """Of a stage on which no round runs any more."""
    for running in stage.rounds:
        assert running.done()
        assert running.cancelled() or running.exception() is None, running.exception()
    assert stage.had <= stage.counted.keys(), "an upload that never ended is said to be there"
    assert stage.spool.held_bytes == 0
    for number in range(1, stage.task.history.started + 1):
        _check_events(stage, number)
        closed = stage.task.history.find(number).sum
        if closed is not None:
            _check_sum(stage, number, closed)


def _check_events(stage: "Stage", number: int) -> None:
    events = stage.task.history.events(number)._events
    assert len(events) <= len(stage.everybody) * EVENTS_PER_CLIENT_MAX + len(HOMOMORPHIC_STEPS) + 2
    assert sum(event.kind in {EventKind.CLOSED, EventKind.FAILED} for event in events) == 1


def _check_sum(stage: "Stage", number: int, closed: Completed) -> None:
    """The sum is that of the survivors' words, changed by what was uploaded instead of them, or of their sum."""
    survivors, spec = closed.survivors, stage.spec
    assert len(survivors) >= spec.minimum_cohort
    wanted = [sum(int(stage.words[client][i]) for client in survivors) for i in range(spec.entries)]
    for member in (*survivors, *(KEY_HOLDER,) * (spec.mode is Mode.HOMOMORPHIC)):  # who may lie of the words
        sent, own = stage.counted[number, member], _own(stage, number, member)
        if sent == own:
            continue
        assert spec.mode is not Mode.HOMOMORPHIC or member == KEY_HOLDER, "ciphertexts that nobody committed to"
        if spec.mode is Mode.LATTICE or own is None:
            return  # what comes of residues that nobody encrypted is anybody's guess
        theirs, ours = (packing.unpack(payload, spec.entries, spec.ring_bits) for payload in (sent, own))
        wanted = [entry + their - our for entry, their, our in zip(wanted, theirs, ours, strict=True)]
    assert closed.total.tolist() == [entry % 2**spec.ring_bits for entry in wanted]


def _own(stage: "Stage", number: int, member: int) -> bytes | None:
    """What a member would have uploaded, had it been left to itself; None where it never came so far."""
    for (who, which, _), parts in stage.answers.items():
        if (who, which) == (member, number) and isinstance(parts[0], UploadHeader):
            return b"".join(bytes(chunk.data) for chunk in parts[1:])
    return None
