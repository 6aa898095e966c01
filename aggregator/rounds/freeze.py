"""Homomorphic step 3: the auditor signs the list of commitments, once, so that nobody adds to it what it has seen."""

from aggregator.protocol import homomorphic_coordinator as coordinator
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.committed_list import CommittedList
from aggregator.protocol.parties import AUDITOR
from aggregator.rounds.asking import Asking
from aggregator.rounds.phase import Failed, Setting
from aggregator.rounds.upload import Frozen, UploadCiphertexts
from aggregator.wire.messages import FreezeRequest, ListSignature
from aggregator.wire.vocabulary import Step


class Freeze(Asking[ListSignature]):
    """Ask for the auditor's signature over the list."""

    step = Step.FREEZE
    answer_type = ListSignature

    def __init__(self, setting: Setting, committed: CommittedList) -> None:
        super().__init__(setting, AUDITOR, committed.commitments.keys())
        self._committed = committed

    def announcement(self, client: ClientId) -> FreezeRequest:
        """All that it takes to check the list."""
        return FreezeRequest(self._setting.terms.to_message(), self._setting.roster_bytes, self._committed.named)

    def check(self, client: ClientId, answer: ListSignature) -> None:
        """A signature over this very list."""
        coordinator.admit_list_signature(self._committed, self._setting.attending[AUDITOR], answer)

    def finish(self) -> UploadCiphertexts | Failed:
        """Show the frozen list to its clients."""
        if not self.ready:
            return self.unanswered()
        frozen = Frozen(self._committed, self.answers[AUDITOR].signature)
        return UploadCiphertexts(self._setting, self.standing, frozen)
