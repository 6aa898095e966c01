"""Where a round stands, and how it is found again after its server was killed: by going through its steps once more.

Every answer that had been written down is checked as on its arrival, so a row that the disk has changed is found out.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from aggregator.errors import MessageError, StorageError
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.parties import who
from aggregator.rounds.phase import Completed, Failed, Phase
from aggregator.rounds.upload import UploadCiphertexts
from aggregator.rounds.uploads import Uploads
from aggregator.storage.base import Staged, StoredStep, StoredSum
from aggregator.wire.messages import UploadHeader

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Stand:
    """A round in one of its steps.

    Attributes:
        phase: the step.
        entered: who has entered the round.
        summed: U, once it is fixed.
        deadline_s: the wall clock at the step's deadline, unix seconds; None before it has begun.
    """

    phase: Phase[Any]
    entered: frozenset[ClientId] = frozenset()
    summed: frozenset[ClientId] = frozenset()
    deadline_s: float | None = None

    def after(self, following: Phase[Any] | Completed | Failed) -> "Stand":
        """With the step ended; in the following one, if there is one."""
        entered = frozenset(self.phase.answers) if self.phase.takes_in else self.entered
        if not isinstance(following, Phase):
            return replace(self, entered=entered)
        return Stand(following, entered, self.summed or following.survivors)


def replay(first: Phase[Any], steps: Iterable[StoredStep], kept: StoredSum | None) -> Stand:
    """Where the round stands whose steps these are.

    Args:
        first: its first step, before any answer.
        steps: as they were written down.
        kept: the running sum.

    Raises:
        StorageError: they do not fit the round, or something of them is lost.
    """
    stand = Stand(first)
    for stored in steps:
        phase = stand.phase
        if stored.step != phase.step:
            raise StorageError(f"the records say {stored.step} where the round is in {phase.step}")
        try:
            _take(phase, stored, kept if kept is not None and kept.step == stored.step else None)
        except MessageError as error:
            raise StorageError(f"{phase.step}: what was written down is refused now: {error}") from None
        if stored.ended_with is None:
            return replace(stand, deadline_s=stored.deadline_s)
        if frozenset(phase.answers) != stored.ended_with:
            lost = len(stored.ended_with - phase.answers.keys())
            raise StorageError(f"{phase.step}: of {len(stored.ended_with)} answers {lost} are lost")
        following = phase.finish()
        if not isinstance(following, Phase):
            raise StorageError(f"{phase.step}: the round went on from here, and does not now")
        stand = stand.after(following)
    return stand


def _take(phase: Phase[Any], stored: StoredStep, kept: StoredSum | None) -> None:
    def counts(member: ClientId) -> bool:
        return stored.ended_with is None or member in stored.ended_with

    for member, body in stored.answers.items():
        if counts(member):
            phase.accept(member, body)
    if not isinstance(phase, Uploads):
        return
    members = frozenset[ClientId]() if kept is None else kept.members
    if kept is not None:
        headers = {upload.member: upload.header for upload in stored.uploads if upload.member in members}
        phase.restore_sum(kept.octets, headers)
    for upload in stored.uploads:
        if upload.staged is None or not counts(upload.member):
            continue
        if upload.member not in members:
            _restore(phase, upload.member, upload.header, upload.staged, strict=stored.ended_with is not None)
        elif isinstance(phase, UploadCiphertexts):
            phase.keep(upload.member, upload.staged)


def _restore(phase: Uploads[Any], member: ClientId, header: UploadHeader, staged: Staged, *, strict: bool) -> None:
    """One upload. In a step that goes on, the server may have been killed before it could refuse it."""
    try:
        phase.restore(member, header, staged)
    except MessageError:
        if strict:
            raise
        _LOG.warning("%s: an upload of %s that had arrived is refused", phase.step, who(member))
