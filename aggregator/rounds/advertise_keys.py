"""Step 1: every client sends its ephemeral public keys, signed under ctx0. U1 = those whose adverts arrived."""

from aggregator.errors import ParameterError, RoundAborted
from aggregator.protocol import coordinator
from aggregator.protocol.cohort import ClientId, freeze
from aggregator.rounds.entering import Entering
from aggregator.rounds.phase import Failed, Setting
from aggregator.rounds.share_keys import ShareKeys
from aggregator.wire.messages import Advert
from aggregator.wire.vocabulary import Step


class AdvertiseKeys(Entering[Advert]):
    """Collect adverts from those who are invited, by default the whole roster."""

    step = Step.ADVERTISE_KEYS
    answer_type = Advert

    def __init__(self, setting: Setting, invited: frozenset[ClientId] | None = None) -> None:
        super().__init__(setting, frozenset(range(len(setting.roster))) if invited is None else invited)

    def check(self, client: ClientId, answer: Advert) -> None:
        """A signed advert, while the sum has room."""
        super().check(client, answer)
        coordinator.admit_advert(self._setting.terms, self._setting.roster, client, answer)

    def finish(self) -> ShareKeys | Failed:
        """Freeze U1."""
        listed = coordinator.listed_adverts(self._setting.terms, self.answers)
        try:
            cohort = freeze(self._setting.terms, [(item.client, item.hash) for item in listed])
        except (RoundAborted, ParameterError) as error:
            return Failed(self.step, str(error))
        return ShareKeys(self._setting, cohort, listed, self.answers)
