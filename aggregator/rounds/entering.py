"""A step by whose answer clients enter a round: whoever is invited may come, as long as the sum has room."""

from collections.abc import Set as AbstractSet
from typing import Generic

from aggregator.errors import Overloaded
from aggregator.protocol.cohort import ClientId
from aggregator.rounds.phase import Answer, Phase, Setting
from aggregator.wire.messages import RoundOpened


class Entering(Phase[Answer], Generic[Answer]):
    """Collect the first answers of those who are invited."""

    takes_in = True

    def __init__(self, setting: Setting, invited: AbstractSet[ClientId]) -> None:
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
        """The round's terms, the roster, and in homomorphic mode the public key."""
        return self._opened

    def check(self, client: ClientId, answer: Answer) -> None:
        """Whether there is room for one more; each step checks the answer besides.

        Raises:
            Overloaded: the sum is full.
        """
        most = self._setting.terms.parameters.clients_max
        if client not in self.answers and len(self.answers) >= most:
            raise Overloaded(f"the round is full: its sum holds at most {most} clients")
