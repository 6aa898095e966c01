"""Homomorphic step 1: the key holder makes a key pair for this round, and publishes its public half."""

from dataclasses import replace

from aggregator.protocol import homomorphic_coordinator as coordinator
from aggregator.protocol.cohort import ClientId
from aggregator.protocol.parties import KEY_HOLDER, Audit
from aggregator.rounds.asking import Asking
from aggregator.rounds.commit_input import CommitInput
from aggregator.rounds.phase import Failed, Setting
from aggregator.rounds.upload import UploadCiphertexts
from aggregator.wire.messages import KeyRequest, PublishedKey
from aggregator.wire.vocabulary import Step


class PublishKey(Asking[PublishedKey]):
    """Ask for the key; then the round's terms are whole, and its clients hear of it."""

    step = Step.PUBLISH_KEY
    answer_type = PublishedKey

    def __init__(self, setting: Setting, invited: frozenset[ClientId] | None = None) -> None:
        setting = replace(setting, terms=coordinator.draft(setting.terms, setting.attending))
        super().__init__(setting, KEY_HOLDER, frozenset(range(len(setting.roster))) if invited is None else invited)

    def announcement(self, client: ClientId) -> KeyRequest:
        """What the key is for."""
        return KeyRequest(self._setting.terms.to_message())

    def check(self, client: ClientId, answer: PublishedKey) -> None:
        """A key that its holder signed for this round."""
        coordinator.admit_key(self._setting.terms, self._setting.attending[KEY_HOLDER], answer)

    def finish(self) -> CommitInput | UploadCiphertexts | Failed:
        """Go on under the key."""
        if not self.ready:
            return self.unanswered()
        setting = _under(self._setting, self.answers[KEY_HOLDER])
        parties = setting.terms.parameters.parties
        if parties is not None and parties.audit is Audit.FROZEN:
            return CommitInput(setting, self.standing)
        return UploadCiphertexts(setting, self.standing, None)


def _under(setting: Setting, published: PublishedKey) -> Setting:
    """The setting of a round whose key is known."""
    terms = setting.terms.under(published.public_key)
    return replace(setting, terms=terms, key=coordinator.announced_key(setting.attending, published))
