"""Who a site is: the certificate and key that its sessions sign and call with, and what has replaced them since.

A renewal reaches a session that is open, but never a round in progress: each session keeps its certificate until a
round's roster holds the other one instead, or the server refuses it, or it has expired.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from aggregator.crypto.certificates import Certificate, Reminder, Role, stamp
from aggregator.crypto.identity import Identity
from aggregator.crypto.roster import Roster
from aggregator.errors import NotAdmitted
from aggregator.files import Watched
from aggregator.protocol.participant import Site
from clients.retry import patiently

_LOG = logging.getLogger("clients")


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class IdentityFiles:
    """The identity in a directory, read again once its files were replaced; all sessions of a site share it.

    Raises:
        NotAdmitted: as `Identity.load` and `Identity.check`, for what the directory holds at first.
        StorageError: as `Identity.load`.
    """

    def __init__(
        self, directory: Path, now: Callable[[], datetime] = utc_now, *, role: Role = Role.PARTICIPANT
    ) -> None:
        self._directory = directory
        self._role = role
        self._now = now
        self._files = Watched(lambda: Identity.state(directory), self._read)

    def newest(self) -> Identity:
        """What the files hold now; where they hold nothing that this site can use, what they held before."""
        refusal, newest = self._files.look(), self._files.present
        if refusal is not None:
            name = newest.certificate.name
            _LOG.warning("%s: the new identity in %s is not used: %s", name, str(self._directory), refusal)
        return newest

    def _read(self, old: Identity | None) -> Identity:
        found = Identity.load(self._directory)
        found.check(self._role, self._now())
        if old and (found.certificate.name, found.authority) != (old.certificate.name, old.authority):
            raise NotAdmitted(f"it is of {found.certificate.name}, or of another authority")
        return found


class Credentials:
    """Who one session is.

    Args:
        site: its certificate and key, and what it insists on.
        newest: gives the site under the newest certificate that it holds; None where it never changes.
        now: the wall clock.
    """

    def __init__(
        self, site: Site, newest: Callable[[], Site] | None = None, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.site = site
        self._newest = newest
        self._now = now
        self._reminder = Reminder()

    def check(self) -> None:
        """Look at the certificate's time, since TLS would only say "unavailable"; say when it is about to end.

        Raises:
            NotAdmitted: it has expired, and there is no newer one.
        """
        try:
            self.site.certificate.check_valid_at(self._now())
        except NotAdmitted:
            if not self.renew():
                raise
        self._warn()

    def renew(self) -> bool:
        """Take up a newer certificate; False when there is none."""
        newest = self._newest() if self._newest is not None else self.site
        if newest.certificate == self.site.certificate:
            return False
        self.site = newest
        _LOG.info("%s: takes up its renewed certificate %s", newest.certificate.name, f"{newest.certificate.serial:#x}")
        return True

    def renew_for(self, roster: Roster) -> bool:
        """Take up a newer certificate if this roster holds it; False where the present one stays."""
        if self._newest is None or _holds(roster, self.site.certificate):
            return False
        return _holds(roster, self._newest().certificate) and self.renew()

    async def renewed(self, refusal: NotAdmitted, patience_s: float) -> None:
        """Wait for a newer certificate than the one that was refused.

        The consortium may change its roster before this site has the file.

        Raises:
            NotAdmitted: the refusal, when none came in time.
        """
        if self.renew():
            return
        if self._newest is None:
            raise refusal
        _LOG.warning("%s: %s; waiting %g s for a new identity", self.site.certificate.name, refusal, patience_s)

        async def take_up() -> None:
            if not self.renew():
                raise refusal.with_traceback(None)  # which would grow with every attempt

        await patiently(patience_s, heals=(NotAdmitted,))(take_up)

    def _warn(self) -> None:
        now, certificate = self._now(), self.site.certificate
        if self._reminder.is_due(certificate, now):
            days = max(0, (certificate.not_after - now).days)
            ends = stamp(certificate.not_after)
            _LOG.warning("the certificate of %s ends in %d days, on %s: renew it", certificate.name, days, ends)


def _holds(roster: Roster, certificate: Certificate) -> bool:
    try:
        roster.index_of(certificate.fingerprint)
    except NotAdmitted:
        return False
    return True
