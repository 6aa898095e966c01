"""Who this server is, and who may come: read from files, and read again when they have changed.

A file that does not hold what it should changes nothing: what was read before stays, and the log says why.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from aggregator.config import ServerConfig
from aggregator.crypto import roster as rosters
from aggregator.crypto.certificates import Role, stamp
from aggregator.crypto.identity import IDENTITY_FILE, KEY_FILE, Identity
from aggregator.crypto.revocation import read_revoked
from aggregator.crypto.roster import Roster
from aggregator.errors import NotAdmitted, SangamError
from aggregator.files import read_file, state

_LOG = logging.getLogger(__name__)

EXPIRES_SOON = timedelta(days=30)
SAID_AGAIN_AFTER = timedelta(days=1)


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
        self._warn_after = datetime.min.replace(tzinfo=UTC)
        self._refused: dict[str, object] = {}  # by file, its state when it was refused
        self._seen = self._states()
        identity = self._read_identity()
        self.present = Membership(identity, self._read_roster(identity), self._read_revoked())

    def look(self) -> tuple[str, ...]:
        """Read what has changed; what it says, in words. Takes 0.1 s for a roster of 1,000 sites."""
        changed = [name for name, found in self._states().items() if found != self._seen[name] or name in self._refused]
        before = self.present.in_words
        for name in changed:
            self._take(name)
        said = tuple(words for name, words in self.present.in_words.items() if words != before[name])
        for words in said:
            _LOG.info("from now on: %s", words)
        self._warn()
        return said

    def _take(self, name: str) -> None:
        found = self._seen[name] = self._states()[name]  # before it is read: a write meanwhile is seen the next time
        try:
            self.present = self._changed(name)
        except SangamError as error:
            if self._refused.get(name) != found:
                self._refused[name] = found
                _LOG.warning("the new %s is refused, the old one stays: %s", name, error)
        else:
            self._refused.pop(name, None)

    def _changed(self, name: str) -> Membership:
        present = self.present
        match name:
            case "identity":
                identity = self._read_identity()
                if identity.authority != present.identity.authority:
                    raise NotAdmitted(f"{identity.certificate.name} is of another authority than this server's")
                return replace(present, identity=identity)
            case "roster":
                return replace(present, roster=_newer(present.roster, self._read_roster(present.identity)))
        return replace(present, revoked_serials=self._read_revoked())

    def _states(self) -> dict[str, object]:
        home, revoked = self._config.identity, self._config.revoked
        return {
            "identity": (state(home / KEY_FILE), state(home / IDENTITY_FILE)),
            "roster": state(self._config.roster),
            "revoked": () if revoked is None else state(revoked),
        }

    def _read_identity(self) -> Identity:
        identity = Identity.load(self._config.identity)
        identity.check(Role.AGGREGATOR, self._now())
        return identity

    def _read_roster(self, identity: Identity) -> Roster:
        roster = rosters.from_bytes(read_file(self._config.roster))
        roster.verify(identity.authority, self._now())
        return roster

    def _read_revoked(self) -> frozenset[int]:
        return frozenset() if self._config.revoked is None else read_revoked(self._config.revoked)

    def _warn(self) -> None:
        now, certificate = self._now(), self.present.identity.certificate
        if certificate.not_after - now < EXPIRES_SOON and now >= self._warn_after:
            self._warn_after = now + SAID_AGAIN_AFTER
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


def _newer(old: Roster, new: Roster) -> Roster:
    if new.version < old.version:
        raise NotAdmitted(f"roster version {new.version} is older than version {old.version}, which is in use")
    if new.version == old.version and new.root != old.root:
        raise NotAdmitted(f"roster version {new.version} differs from the one in use: a change is a new version")
    return new
