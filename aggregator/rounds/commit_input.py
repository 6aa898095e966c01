"""Homomorphic step 2: every client signs the hash of its ciphertexts, before it can know anybody else's."""

from aggregator.protocol import homomorphic_coordinator as coordinator
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.committed_list import freeze
from aggregator.rounds.entering import Entering
from aggregator.rounds.freeze import Freeze
from aggregator.rounds.phase import Failed
from aggregator.wire.messages import InputCommitment
from aggregator.wire.vocabulary import Step


class CommitInput(Entering[InputCommitment]):
    """Collect commitments from those who are invited."""

    step = Step.COMMIT_INPUT
    answer_type = InputCommitment

    def check(self, client: ClientId, answer: InputCommitment) -> None:
        """A signed commitment, to ciphertexts that nobody committed to before, while the sum has room."""
        super().check(client, answer)
        others = (other for author, other in self.answers.items() if author != client)
        coordinator.admit_commitment(self._setting.terms, self._setting.roster, client, answer, others)

    def finish(self) -> Freeze | Failed:
        """Ask the auditor to freeze what came."""
        if not self.ready:
            return self.too_few("clients")
        return Freeze(self._setting, freeze(self._setting.terms, self.answers))
