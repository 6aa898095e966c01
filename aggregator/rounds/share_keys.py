"""Step 2: every client deals encrypted shares of its two secrets. U2 = those whose shares all arrived."""

from collections.abc import Mapping

from aggregator.protocol import coordinator
from aggregator.protocol.cohort import ClientId, Cohort
from aggregator.rounds.masked_input import MaskedInput
from aggregator.rounds.phase import Failed, Phase, Setting
from aggregator.wire.messages import Advert, AdvertList, Dealing, ListedAdvert
from aggregator.wire.vocabulary import Step


class ShareKeys(Phase[Dealing]):
    """Collect dealings from U1."""

    step = Step.SHARE_KEYS
    answer_type = Dealing

    def __init__(
        self,
        setting: Setting,
        cohort: Cohort,
        listed: tuple[ListedAdvert, ...],
        adverts: Mapping[ClientId, Advert],
    ) -> None:
        super().__init__(adverts.keys())
        self._setting = setting
        self._cohort = cohort
        self._listed = listed
        self._adverts = adverts

    @property
    def needed(self) -> int:
        """As many as must survive."""
        return self._cohort.survivors_least

    def announcement(self, client: ClientId) -> AdvertList:
        """U1 as hashes, and the client's neighbours' adverts."""
        return coordinator.advert_list(self._cohort, self._listed, self._adverts, client)

    def check(self, client: ClientId, answer: Dealing) -> None:
        """One envelope per holder, signed."""
        coordinator.admit_dealing(self._cohort, self._setting.roster, client, answer)

    def finish(self) -> MaskedInput | Failed:
        """Freeze U2."""
        if not self.ready:
            return self.too_few("clients")
        return MaskedInput(self._setting, self._cohort, self._adverts, self.answers)
