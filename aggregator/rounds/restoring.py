"""What a server makes of a task's records when it starts: rounds that have ended, and the one that goes on."""

from collections.abc import Callable

import numpy as np

from aggregator.crypto import roster as rosters
from aggregator.crypto.certificates import Certificate
from aggregator.crypto.roster import Roster
from aggregator.errors import StorageError
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.encoding import RingVector
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.protocol.spread import Each
from aggregator.rounds.events import EventLog
from aggregator.rounds.observing import UNOBSERVED, Observer
from aggregator.rounds.phase import Completed, Setting
from aggregator.rounds.round import Round
from aggregator.storage.base import StoredOpening, StoredResult, StoredRound
from aggregator.wire.messages import Terms
from aggregator.wire.vocabulary import RoundState, SumState
from native.ring import word_dtype


class Restorer:
    """Makes rounds of one task again.

    Args:
        parameters: the task's.
        each: as a round's setting has it.
        clock: seconds, monotonic.
        now: the wall clock, unix seconds.
        observer: who looks on a round that goes on, by its number.
    """

    def __init__(
        self,
        parameters: Parameters,
        each: Each,
        clock: Callable[[], float],
        now: Callable[[], float],
        observer: Callable[[int], Observer],
    ) -> None:
        self._observer = observer
        self._parameters = parameters
        self._each = each
        self._clock = clock
        self._now = now
        self._rosters: dict[bytes, Roster] = {}  # most rounds have the same one

    def round(self, stored: StoredRound, gathered: Callable[[], int]) -> Round:
        """One round; with its end, and its sum, where it has ended."""
        age_s = max(0.0, self._now() - stored.started_s)
        observer = self._observer(stored.number) if stored.end is None else UNOBSERVED
        events = EventLog(self._clock, observer, stored.records.noted, stored.events or (), age_s)
        round_ = Round(stored.number, stored.started_s, stored.model_hash, events, gathered, stored.records)
        if stored.end is not None:
            if stored.events is None:
                events.forget()
            ended_at = self._clock() - max(0.0, self._now() - stored.end.ended_s)
            state = SumState.NONE if stored.result is None else stored.result.state
            round_.restore_end(stored.end.summary, self.completed(stored), state, ended_at)
        return round_

    def setting(self, stored: StoredRound, opening: StoredOpening, terms: Terms | None = None) -> Setting:
        """What the phases of an opened round share.

        Args:
            stored: the round.
            opening: of it.
            terms: its final ones; by default those that it opened with.

        Raises:
            StorageError: terms and roster do not fit each other.
        """
        if opening.roster not in self._rosters:
            self._rosters[opening.roster] = rosters.from_bytes(opening.roster)
        roster = self._rosters[opening.roster]
        draft = terms is None and self._parameters.mode is Mode.HOMOMORPHIC
        found = RoundTerms.from_message(terms or opening.terms, draft=draft)
        if (len(roster), roster.root) != (found.roster_size, found.roster_root):
            raise StorageError(f"round {stored.number}: the records have another roster than its terms name")
        attending = {number: Certificate.from_der(der) for number, der in opening.attending.items()}
        return Setting(found, roster, opening.roster, stored.records.spool, self._each, attending)

    def completed(self, stored: StoredRound) -> Completed | None:
        """The round's sum; None where it has none, or has it no longer."""
        result, opening = stored.result, stored.opening
        failed = stored.end is not None and stored.end.summary.state != RoundState.CLOSED
        if result is None or result.words is None or opening is None or failed:
            return None
        setting = self.setting(stored, opening, result.terms)
        return Completed(setting, result.survivors, self._words(result))

    def _words(self, result: StoredResult) -> RingVector:
        return np.frombuffer(result.words or b"", word_dtype(self._parameters.ring_bits))


def destroy_uncounted(stored: StoredRound) -> None:
    """Inputs that came too late for a step that has ended; the server was killed before it destroyed them."""
    for step in stored.steps:
        for upload in step.uploads:
            if step.ended_with is not None and upload.member not in step.ended_with:
                stored.records.refused(step.step, upload.member)
