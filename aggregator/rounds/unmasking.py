"""Step 5: the signers give up one share per neighbour, and the masks come off the sum."""

from collections.abc import Mapping

from aggregator.errors import RoundAborted
from aggregator.protocol import coordinator
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.contribution import Total
from aggregator.protocol.coordinator import View
from aggregator.rounds.phase import Completed, Failed, Phase, Setting
from aggregator.wire import messages
from aggregator.wire.messages import SignatureList, SurvivorSignature
from aggregator.wire.vocabulary import Step


class Unmasking(Phase[messages.Unmasking]):
    """Collect shares from those who signed."""

    step = Step.UNMASKING
    answer_type = messages.Unmasking
    written_down = False  # shares are asked for again: what need not lie on a disk does not

    def __init__(
        self, setting: Setting, view: View, total: Total, signatures: Mapping[ClientId, SurvivorSignature]
    ) -> None:
        super().__init__(signatures.keys())
        self._setting = setting
        self._view = view
        self._total = total
        self._signatures = signatures

    @property
    def needed(self) -> int:
        """As many answers as the threshold; whether each secret has its shares shows when they are combined."""
        return self._view.cohort.threshold

    def announcement(self, client: ClientId) -> SignatureList:
        """The signatures of the client's neighbours."""
        return coordinator.signature_list(self._view.cohort, self._signatures, client)

    def check(self, client: ClientId, answer: messages.Unmasking) -> None:
        """Shares that were asked for and that their dealers dealt."""
        coordinator.admit_unmasking(self._view, client, answer)

    def finish(self) -> Completed | Failed:
        """Recover the seeds and take the masks off."""
        try:
            recovered = coordinator.reconstruct(self._view, self.answers)
            total = coordinator.remove_masks(self._view, recovered, self._total, self._setting.each)
        except RoundAborted as error:
            return Failed(self.step, str(error))
        return Completed(self._setting, self._view.survivors, total)
