"""What lies on this machine's disk: a key, certificates, a journal."""

import os
import sqlite3
from collections.abc import Collection
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from aggregator.crypto.certificates import Certificate, Role, stamp
from aggregator.crypto.identity import KEY_FILE
from aggregator.doctor.finding import Opinion, fault, warning
from aggregator.errors import StorageError
from clients.journal import Journal

RENEW_BEFORE: Final = timedelta(days=30)
_OTHERS, _GROUP = 0o007, 0o070


def look_at_key(directory: Path) -> Opinion:
    """Who else on this machine may read the key."""
    path = directory / KEY_FILE
    mode = path.stat().st_mode & 0o777
    remedy = f"chmod 600 {path}; if others have accounts on this machine, make a new key and have it certified"
    if os.name == "posix" and mode & _OTHERS:
        return fault(f"{path} has mode {mode:04o}: every user of this machine can read the key", remedy)
    if os.name == "posix" and mode & _GROUP:
        return warning(f"{path} has mode {mode:04o}: its group can read the key", remedy)
    return Opinion(f"{path} can be read by its owner only")


def look_at_certificate(certificate: Certificate, roles: Collection[Role], now: datetime) -> Opinion:
    """Whether the certificate is of one of these roles, and valid for another month."""
    if certificate.role not in roles:
        wanted = " or ".join(roles)
        remedy = f"use the directory of a site that is certified as {wanted}, or ask the consortium for one"
        return fault(f"{certificate.name} is certified as {certificate.role}, not as {wanted}", remedy)
    return _validity(certificate, f"{certificate.name} is {certificate.role} of {certificate.deployment}", now)


def look_at_authority(authority: Certificate, now: datetime) -> Opinion:
    """Whether the consortium's own certificate is valid for another month."""
    return _validity(authority, f"the authority of {authority.deployment} ({authority.fingerprint.hex()[:16]}) is", now)


def look_at_journal(path: Path) -> Opinion:
    """Whether a session could take the journal now. Run in a process that has no session: it opens the file."""
    if not path.exists():
        if os.access(path.parent, os.W_OK):
            return Opinion(f"{path} does not exist yet: the first session makes it")
        return fault(f"{path} cannot be made: {path.parent} is read-only to this user", f"chown or chmod {path.parent}")
    if _is_locked(path):
        remedy = "nothing, if that is this site's session; a second one is refused until the first has ended"
        return warning(f"{path} is in use by another process of this site", remedy)
    try:
        Journal(path).close()
    except StorageError as error:
        return fault(str(error), "mend the disk or the permissions; never restore a journal from a backup")
    return Opinion(f"{path} can be read and written, and no other process holds it")


def _validity(certificate: Certificate, prefix: str, now: datetime) -> Opinion:
    clock = f"if this machine's clock is wrong ({stamp(now)}), set it; else"
    if now > certificate.not_after:
        says = f"{prefix}: expired on {stamp(certificate.not_after)}"
        return fault(says, f"{clock} have a new certificate issued by the consortium")
    if now < certificate.not_before:
        says = f"{prefix}: not valid before {stamp(certificate.not_before)}"
        return fault(says, f"{clock} wait until then")
    left = certificate.not_after - now
    says = f"{prefix} until {stamp(certificate.not_after)}, for {left.days} more days"
    if left < RENEW_BEFORE:
        return warning(says, "have it renewed by the consortium now")
    return Opinion(says)


def _is_locked(path: Path) -> bool:
    """A session holds its journal's exclusive lock all the time, so that nobody can even read."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)) as database:
        try:
            database.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.DatabaseError as error:
            return error.sqlite_errorcode == sqlite3.SQLITE_BUSY
    return False
