"""Step 1: every client sends its ephemeral public keys, signed under ctx0. U1 = those whose adverts arrived."""

from aggregator.errors import Overloaded, ParameterError, RoundAborted
from aggregator.protocol import coordinator
from aggregator.protocol.cohort import ClientId, freeze
from aggregator.rounds.phase import Failed, Phase, Setting
from aggregator.rounds.share_keys import ShareKeys
from aggregator.wire.messages import Advert, RoundOpened
from aggregator.wire.vocabulary import Step


class AdvertiseKeys(Phase[Advert]):
    """Collect adverts from those who are invited, by default the whole roster."""

    step = Step.ADVERTISE_KEYS
    answer_type = Advert
    takes_in = True

    def __init__(self, setting: Setting, invited: frozenset[ClientId] | None = None) -> None:
        super().__init__(set(range(len(setting.roster))) if invited is None else invited)
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
        """The round's terms and the roster."""
        return self._opened

    def check(self, client: ClientId, answer: Advert) -> None:
        """A signed advert, while the sum has room."""
        most = self._setting.terms.parameters.clients_max
        if client not in self.answers and len(self.answers) >= most:
            raise Overloaded(f"the round is full: its sum holds at most {most} clients")
        coordinator.admit_advert(self._setting.terms, self._setting.roster, client, answer)

    def finish(self) -> ShareKeys | Failed:
        """Freeze U1."""
        listed = coordinator.listed_adverts(self._setting.terms, self.answers)
        try:
            cohort = freeze(self._setting.terms, [(item.client, item.hash) for item in listed])
        except (RoundAborted, ParameterError) as error:
            return Failed(self.step, str(error))
        return ShareKeys(self._setting, cohort, listed, self.answers)
