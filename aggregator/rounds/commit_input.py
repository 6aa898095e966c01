"""Homomorphic step 2: every client signs the hash of its ciphertexts, before it can know anybody else's."""

from aggregator.errors import Overloaded
from aggregator.protocol import homomorphic_coordinator as coordinator
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.committed_list import freeze
from aggregator.rounds.freeze import Freeze
from aggregator.rounds.phase import Failed, Phase, Setting
from aggregator.wire.messages import InputCommitment, RoundOpened
from aggregator.wire.vocabulary import Step


class CommitInput(Phase[InputCommitment]):
    """Collect commitments from those who are invited."""

    step = Step.COMMIT_INPUT
    answer_type = InputCommitment
    takes_in = True

    def __init__(self, setting: Setting, invited: frozenset[ClientId]) -> None:
        super().__init__(invited)
        self._setting = setting
        self._opened = setting.opened()

    @property
    def awaited(self) -> frozenset[ClientId]:
        """The rest of the invited; nobody, once the sum is full."""
        full = len(self.answers) >= self._setting.terms.parameters.clients_max
        return frozenset() if full else super().awaited

    @property
    def needed(self) -> int:
        """The minimum cohort."""
        return self._setting.terms.parameters.minimum_cohort

    def announcement(self, client: ClientId) -> RoundOpened:
        """The round's terms, the roster, the public key."""
        return self._opened

    def check(self, client: ClientId, answer: InputCommitment) -> None:
        """A signed commitment, to ciphertexts that nobody committed to before, while the sum has room."""
        most = self._setting.terms.parameters.clients_max
        if client not in self.answers and len(self.answers) >= most:
            raise Overloaded(f"the round is full: its sum holds at most {most} clients")
        others = (other for author, other in self.answers.items() if author != client)
        coordinator.admit_commitment(self._setting.terms, self._setting.roster, client, answer, others)

    def finish(self) -> Freeze | Failed:
        """Ask the auditor to freeze what came."""
        if not self.ready:
            return self.too_few("clients")
        return Freeze(self._setting, freeze(self._setting.terms, self.answers))
