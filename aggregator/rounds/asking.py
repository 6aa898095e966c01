"""Steps of one answer: the server asks key holder or auditor, and the clients wait."""

from collections.abc import Set as AbstractSet
from typing import Generic

from aggregator.protocol.cohort import ClientId
from aggregator.rounds.phase import Answer, Failed, Phase, Setting
from aggregator.wire.vocabulary import Step


class Asking(Phase[Answer], Generic[Answer]):
    """One question to one party.

    Args:
        setting: of the round.
        party: its number.
        clients: who is in the round meanwhile.
    """

    def __init__(self, setting: Setting, party: ClientId, clients: AbstractSet[ClientId]) -> None:
        super().__init__({party})
        self._setting = setting
        self._party = party
        self._clients = frozenset(clients)
        self._refusal = ""

    @property
    def standing(self) -> frozenset[ClientId]:
        """The clients that wait."""
        return self._clients

    @property
    def needed(self) -> int:
        """The one answer."""
        return 1

    def note_withdrawal(self, client: ClientId, reason: str) -> None:
        """It refuses."""
        self._refusal = reason

    def unanswered(self) -> Failed:
        """The end of a round in which the party did not answer, or refused."""
        return unanswered(self.step, self._setting.name(self._party), self._refusal)


def unanswered(step: Step, name: str, refusal: str) -> Failed:
    """The end of a round in which a party did not answer, or refused."""
    return Failed(step, f"{step.replace('_', ' ')}: {name} {f'refuses: {refusal}' if refusal else 'did not answer'}")
