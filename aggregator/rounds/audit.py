"""Homomorphic step 5: the auditor reads the ciphertexts of U, adds them up itself, and signs (ctx1, U, H(sum)).

Afterwards the server keeps none of them.
"""

from aggregator.errors import OutOfTurn
from aggregator.protocol import homomorphic_coordinator as coordinator
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.parties import AUDITOR
from aggregator.rounds.asking import Asking
from aggregator.rounds.ciphertexts import Ciphertexts, Sum
from aggregator.rounds.decrypt import Decrypt
from aggregator.rounds.phase import Failed, Setting
from aggregator.wire.messages import AuditRequest, Chunk, CiphertextsRequest, SumSignature
from aggregator.wire.vocabulary import Step


class Audit(Asking[SumSignature]):
    """Ask for the auditor's signature over the sum."""

    step = Step.AUDIT
    answer_type = SumSignature
    frees = Step.UPLOAD

    def __init__(self, setting: Setting, total: Sum, kept: Ciphertexts) -> None:
        super().__init__(setting, AUDITOR, frozenset(total.survivors))
        self._total = total
        self._kept = kept

    @property
    def survivors(self) -> frozenset[ClientId]:
        """U."""
        return self.standing

    def announcement(self, client: ClientId) -> AuditRequest:
        """All that it takes to check the sum, but for the ciphertexts."""
        terms, roster = self._setting.terms.to_message(), self._setting.roster_bytes
        return AuditRequest(terms, roster, self._total.committed.named, self._total.survivors)

    def chunk(self, member: ClientId, request: CiphertextsRequest, index: int) -> Chunk:
        """A chunk of one client's ciphertexts, for the auditor alone."""
        if member != AUDITOR or request.whole_sum:
            raise OutOfTurn(f"{self.step}: ciphertexts of clients are for the auditor")
        return self._kept.chunk(request.client, index)

    def check(self, client: ClientId, answer: SumSignature) -> None:
        """A signature over this very sum."""
        auditor, total = self._setting.attending[AUDITOR], self._total
        coordinator.admit_sum_signature(total.committed, total.survivors, total.hash, auditor, answer)

    def close(self) -> None:
        """Destroy the ciphertexts."""
        self._kept.close()

    def finish(self) -> Decrypt | Failed:
        """Pass the sum on, and destroy what it was made of."""
        self.close()
        if not self.ready:
            return self.unanswered()
        return Decrypt(self._setting, self._total, self.answers[AUDITOR].signature)
