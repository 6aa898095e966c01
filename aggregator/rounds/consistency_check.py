"""Step 4: every survivor signs (U2, U) once, so that no two clients can be shown different survivors."""

from aggregator.protocol import coordinator
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.contribution import Total
from aggregator.protocol.coordinator import View
from aggregator.rounds.phase import Failed, Phase, Setting
from aggregator.rounds.unmasking import Unmasking
from aggregator.wire.messages import Survivors, SurvivorSignature
from aggregator.wire.vocabulary import Step


class ConsistencyCheck(Phase[SurvivorSignature]):
    """Collect signatures from U."""

    step = Step.CONSISTENCY_CHECK
    answer_type = SurvivorSignature

    def __init__(self, setting: Setting, view: View, total: Total) -> None:
        super().__init__(set(view.survivors))
        self._setting = setting
        self._view = view
        self._total = total
        self._survivors = Survivors(view.dealers, view.survivors)

    @property
    def survivors(self) -> frozenset[ClientId]:
        """U: all that may sign."""
        return self.members

    @property
    def needed(self) -> int:
        """As many signatures as the threshold."""
        return self._view.cohort.threshold

    def announcement(self, client: ClientId) -> Survivors:
        """U2 and U."""
        return self._survivors

    def check(self, client: ClientId, answer: SurvivorSignature) -> None:
        """A signature over this very view."""
        coordinator.admit_signature(self._view, self._setting.roster, client, answer)

    def finish(self) -> Unmasking | Failed:
        """Pass the signatures on."""
        if not self.ready:
            return self.too_few("signatures")
        return Unmasking(self._setting, self._view, self._total, self.answers)
