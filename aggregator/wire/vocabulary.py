"""Words that both sides use: the protocol's steps, events and states, and sentences that fit the wire."""

from enum import StrEnum
from typing import Final

from aggregator.wire.messages import REASON_BYTES_MAX


class Step(StrEnum):
    """The protocol's steps, by the paper's names: those of the masked modes, then those of the homomorphic one."""

    ADVERTISE_KEYS = "advertise_keys"
    SHARE_KEYS = "share_keys"
    MASKED_INPUT = "masked_input"
    CONSISTENCY_CHECK = "consistency_check"
    UNMASKING = "unmasking"

    PUBLISH_KEY = "publish_key"
    COMMIT_INPUT = "commit_input"
    FREEZE = "freeze"
    UPLOAD = "upload"
    AUDIT = "audit"
    DECRYPT = "decrypt"


MASKED_STEPS: Final = tuple(Step)[: tuple(Step).index(Step.PUBLISH_KEY)]
HOMOMORPHIC_STEPS: Final = tuple(Step)[len(MASKED_STEPS) :]


class EventKind(StrEnum):
    """What a round's event says."""

    GATHERING = "gathering"
    STEP = "step"
    RESUMED = "resumed"
    ANSWERED = "answered"
    DROPPED = "dropped"
    WITHDREW = "withdrew"
    REFUSED = "refused"
    COMPLAINT = "complaint"
    CLOSED = "closed"
    FAILED = "failed"


class TaskState(StrEnum):
    """Where a task stands."""

    OPEN = "open"
    CANCELLED = "cancelled"


class RoundState(StrEnum):
    """Where a round stands."""

    GATHERING = "gathering"
    RUNNING = "running"
    CLOSED = "closed"
    FAILED = "failed"


class SumState(StrEnum):
    """What became of a round's sum."""

    KEPT = "kept"
    DELETED = "deleted"
    EXPIRED = "expired"
    LOST = "lost"
    NONE = "none"


def sentence(text: str) -> str:
    """A text that fits the wire, without control characters: it ends in somebody's terminal."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
