"""Step 3: whole masked inputs are summed as they arrive. U = those whose last chunk was accepted.

A half-arrived upload never touches the sum.
"""

from collections.abc import Mapping, Sequence

from aggregator.protocol import coordinator, modes
from aggregator.protocol.cohort import ClientId, Cohort
from aggregator.rounds.consistency_check import ConsistencyCheck
from aggregator.rounds.phase import Failed, Setting
from aggregator.rounds.uploads import Upload, Uploads
from aggregator.storage.base import Octets
from aggregator.wire.messages import Advert, Complaint, Dealing, ShareList, UploadHeader
from aggregator.wire.vocabulary import Step


class MaskedInput(Uploads[tuple[Complaint, ...]]):
    """Sum blinded updates as they arrive; the answer kept of each is its complaints."""

    step = Step.MASKED_INPUT
    answer_type = tuple  # of complaints; no message of the control stream belongs here

    def __init__(
        self,
        setting: Setting,
        cohort: Cohort,
        adverts: Mapping[ClientId, Advert],
        dealings: Mapping[ClientId, Dealing],
    ) -> None:
        self._total = modes.new_total(setting.terms.parameters)
        super().__init__(setting, dealings.keys(), setting.terms.parameters.upload_plan, self._total.check)
        self._cohort = cohort
        self._adverts = adverts
        self._dealings = dealings
        self._shares = coordinator.share_lists(cohort, dealings)
        self._damage = ""

    @property
    def needed(self) -> int:
        """As many as must survive."""
        return self._cohort.survivors_least

    def announcement(self, client: ClientId) -> ShareList:
        """U2, and the shares addressed to this client."""
        return self._shares[client]

    def admit_header(self, client: ClientId, header: UploadHeader) -> None:
        """Refuse false complaints."""
        coordinator.admit_complaints(self._cohort, self._dealings, client, header.complaints)

    def finish(self) -> ConsistencyCheck | Failed:
        """Fix U; whatever is still on its way is destroyed."""
        self.abandon_all()
        if self._damage:
            return Failed(self.step, f"masked input: {self._damage}")
        if not self.ready:
            return self.too_few("clients")
        survivors = tuple(sorted(self.answers))
        view = coordinator.View(self._cohort, self._adverts, self._dealings, survivors)
        return ConsistencyCheck(self._setting, view, self._total)

    @property
    def sum_octets(self) -> Sequence[Octets]:
        """As the mode gives it."""
        return self._total.octets

    def restore_sum(self, octets: Octets, headers: Mapping[ClientId, UploadHeader]) -> None:
        """As `Uploads.restore_sum`."""
        self._total.restore(octets, len(headers))
        self.answers.update({client: header.complaints for client, header in headers.items()})

    def take(self, upload: Upload) -> tuple[Complaint, ...]:
        """Read back and add chunk by chunk. Whatever fails half-way spoils the sum, and so the round."""
        try:
            for index in range(self._plan.chunks):
                self._total.add(index, upload.staged.read(self._plan.start(index), self._plan.size(index)))
        except Exception as error:
            self._damage = f"the input of client {upload.client} was only half added: {error}"
            raise
        return upload.header.complaints
