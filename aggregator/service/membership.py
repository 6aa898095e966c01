"""Who this server is, and who may come: read from files, and read again when they have changed.

A file that does not hold what it should changes nothing: what was read before stays, and the log says why.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from aggregator.config import ServerConfig
from aggregator.crypto import roster as rosters
from aggregator.crypto.certificates import Reminder, Role, stamp
from aggregator.crypto.identity import Identity
from aggregator.crypto.revocation import read_revoked
from aggregator.crypto.roster import Roster
from aggregator.errors import NotAdmitted
from aggregator.files import Watched, state

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Membership:
    """What all files together say: one moment's view."""

    identity: Identity
    roster: Roster
    revoked_serials: frozenset[int] = field(repr=False)

    @property
    def in_words(self) -> dict[str, str]:
        """What each file says, for a log."""
        own, roster = self.identity.certificate, self.roster
        return {
            "identity": f"certificate {own.serial:#x} of {own.name}, until {stamp(own.not_after)}",
            "roster": f"roster version {roster.version} of {len(roster)} sites",
            "revoked": f"{len(self.revoked_serials)} revoked certificates",
        }


class Members:
    """The files of one server; `present` is what counts now, replaced as a whole.

    Args:
        config: where the files are.
        now: the wall clock.

    Raises:
        NotAdmitted: this is no aggregator's identity, it has expired, or the roster is not this authority's.
        StorageError, MessageError: a file cannot be read, or does not hold what it should.
    """

    def __init__(self, config: ServerConfig, now: Callable[[], datetime]) -> None:
        self._config = config
        self._now = now
        self._reminder = Reminder()
        self._identity = Watched(lambda: Identity.state(config.identity), self._read_identity)
        self._roster = Watched(lambda: state(config.roster), self._read_roster)
        self._revoked = Watched(lambda: state(config.revoked) if config.revoked else (), self._read_revoked)
        self.present = self._all()

    def look(self) -> tuple[str, ...]:
        """Read what has changed; what it says, in words. Takes 0.1 s for a roster of 1,000 sites."""
        files = {"identity": self._identity.look, "roster": self._roster.look, "revoked": self._revoked.look}
        for name, look in files.items():
            if (refusal := look()) is not None:
                _LOG.warning("the new %s is refused, the old one stays: %s", name, refusal)
        before, self.present = self.present.in_words, self._all()
        said = tuple(words for name, words in self.present.in_words.items() if words != before[name])
        for words in said:
            _LOG.info("from now on: %s", words)
        self._warn()
        return said

    def _all(self) -> Membership:
        return Membership(self._identity.present, self._roster.present, self._revoked.present)

    def _read_identity(self, old: Identity | None) -> Identity:
        identity = Identity.load(self._config.identity)
        identity.check(Role.AGGREGATOR, self._now())
        if old is not None and identity.authority != old.authority:
            raise NotAdmitted(f"{identity.certificate.name} is of another authority than this server's")
        return identity

    def _read_roster(self, old: Roster | None) -> Roster:
        roster = rosters.load(self._config.roster, self._identity.present.authority, self._now())
        if old is not None:
            _check_newer(old, roster)
        return roster

    def _read_revoked(self, _: frozenset[int] | None) -> frozenset[int]:
        return frozenset() if self._config.revoked is None else read_revoked(self._config.revoked)

    def _warn(self) -> None:
        certificate = self.present.identity.certificate
        if self._reminder.is_due(certificate, self._now()):
            _LOG.warning("this server's certificate ends on %s: renew it", stamp(certificate.not_after))


class Watch:
    """Looks at the files every so often, and when told.

    Args:
        members: the files.
        review: called after each look, also when nothing has changed: a certificate ends by itself.
        every_s: seconds between two looks; 0 looks only when told.
    """

    def __init__(self, members: Members, review: Callable[[], None], every_s: float) -> None:
        self._members = members
        self._review = review
        self._every_s = every_s
        self._told = asyncio.Event()
        self._turn = asyncio.Lock()

    async def look(self) -> tuple[str, ...]:
        """Look now; what has changed, in words."""
        async with self._turn:
            said = await asyncio.to_thread(self._members.look)
        self._review()
        return said

    def tell(self) -> None:
        """Look soon; for a signal's handler."""
        self._told.set()

    async def run(self) -> None:
        """Look until cancelled; a look that fails in a way nobody foresaw is logged, and is not the last."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s or None):
                    await self._told.wait()
            self._told.clear()
            (end,) = await asyncio.gather(self.look(), return_exceptions=True)
            if isinstance(end, Exception):
                _LOG.error("identity, roster and revoked serials could not be looked at", exc_info=end)


def _check_newer(old: Roster, new: Roster) -> None:
    if new.version < old.version:
        raise NotAdmitted(f"roster version {new.version} is older than version {old.version}, which is in use")
    if new.version == old.version and new.root != old.root:
        raise NotAdmitted(f"roster version {new.version} differs from the one in use: a change is a new version")
