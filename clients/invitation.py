"""What a site checks of an invitation to a round, before its update is looked at or anything leaves."""

import logging
from collections.abc import Callable
from datetime import datetime

from aggregator.crypto.certificates import CLOCK_SKEW
from aggregator.crypto.roster import Roster
from aggregator.errors import MessageError, ParameterError, StaleModel, VersionMismatch
from aggregator.protocol import participant
from aggregator.protocol.context import RoundTerms
from aggregator.protocol.homomorphic_participant import Keyed, accept_key
from aggregator.protocol.parameters import Parameters
from aggregator.protocol.participant import Invited
from aggregator.protocol.parties import Audit
from aggregator.wire.messages import RoundOpened
from clients.credentials import Credentials
from clients.journal import Journal
from clients.line import Line
from clients.rosters import Rosters

_LOG = logging.getLogger("clients")


class Invitations:
    """The invitations that come over one session's line.

    Args:
        line: what was joined, and in which version of the protocol.
        credentials: who this client is and what it insists on.
        journal: this site's memory across restarts.
        rosters: those that this process has verified.
        now: the wall clock, for certificates.
    """

    def __init__(
        self, line: Line, credentials: Credentials, journal: Journal, rosters: Rosters, now: Callable[[], datetime]
    ) -> None:
        self._line = line
        self._credentials = credentials
        self._journal = journal
        self._rosters = rosters
        self._now = now

    async def accept(
        self, opened: RoundOpened, model_hash: bytes, again: str, parameters: Parameters | None = None
    ) -> Invited | Keyed:
        """Check a round against all that this site knows, and has agreed to before.

        Args:
            opened: the round, as the server announces it.
            model_hash: of the model that the site's update starts from.
            again: why the site contributes once more on the same model; empty where it does not mean to.
            parameters: that were agreed on outside of this protocol; None for whatever the task has.

        Raises:
            VersionMismatch: the round speaks another version of the protocol than the line.
            MessageError: of another task.
            StaleModel: the round starts from another model.
            ParameterError: it protects less than this site demands, or the site contributed on this model before.
            Equivocation: it differs from what this site was told before.
            SangamError: as `Rosters.verified`, `Credentials.check`, `participant.enter` and `Journal`; in homomorphic
                mode as `homomorphic_participant.accept_key`.
        """
        if opened.terms.protocol_version != self._line.version:
            raise VersionMismatch(
                f"the round speaks protocol version {opened.terms.protocol_version}, this session {self._line.version}"
            )
        terms = RoundTerms.from_message(opened.terms)
        roster = self._verified(opened.roster)
        if self._credentials.renew_for(roster):
            self._line.reopen()  # the server asks again on the line of the certificate that is in its roster
        self._credentials.check()
        expired = roster.expired_at(self._now() - CLOCK_SKEW)
        invited = participant.enter(terms, roster, self._credentials.site, expired)
        if terms.task != self._line.task:
            raise MessageError(f"round {terms.round} is of task {terms.task}, this session joined {self._line.task}")
        if parameters is not None and terms.parameters.hash != parameters.hash:
            raise ParameterError(f"round {terms.round} of {terms.task} has other parameters than were agreed on")
        if terms.model_hash != model_hash:
            raise StaleModel(f"round {terms.round} starts from another model than `base`: fetch the last result")
        self._journal.pin_parameters(terms.deployment, terms.task, terms.parameters.hash)
        self._check_fresh(terms, again)
        return self._keyed(invited, opened)

    def _keyed(self, invited: Invited, opened: RoundOpened) -> Invited | Keyed:
        """In homomorphic mode, the public key as well."""
        if (len(opened.key) == 1) != (invited.terms.key is not None):
            raise MessageError(f"round {invited.terms.round} comes with {len(opened.key)} public keys")
        if not opened.key:
            return invited
        keyed = accept_key(invited, opened.key[0], self._credentials.site.authority)
        for party in filter(None, (keyed.key_holder, keyed.auditor)):
            party.check_valid_at(self._now())
        if keyed.audit is not Audit.FROZEN:
            _LOG.warning("round %d of %s is audited %s", invited.terms.round, invited.terms.task, keyed.audit)
        return keyed

    def _verified(self, data: bytes) -> Roster:
        """The roster, checked against the authority; never an older one than was seen."""
        roster = self._rosters.verified(data, self._credentials.site.authority, self._now())
        self._journal.roster_version(roster.deployment, roster.version, roster.root)
        return roster

    def _check_fresh(self, terms: RoundTerms, again: str) -> None:
        """Two sums over cohorts that differ by one reveal the difference: one sum per model, unless chosen."""
        if not self._journal.answered(terms.deployment, terms.task, terms.model_hash):
            return
        if not again:
            raise ParameterError(
                f"this site has contributed to task {terms.task} on this very model before; "
                f"contributing again is a choice: pass again='the reason'"
            )
        self._journal.allow_again(terms.deployment, terms.task, terms.model_hash, again, self._now())
