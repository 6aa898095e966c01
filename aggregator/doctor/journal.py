"""The site's memory of its rounds: whether a session could take it."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from aggregator.crypto.certificates import Role
from aggregator.doctor.finding import Finding, fault, good, warning
from aggregator.errors import StorageError
from clients.connection import JOURNAL_FILE
from clients.journal import Journal


def look_at_journal(directory: Path, role: Role) -> Finding:
    """Whether a session could take the journal now. Run in a process without sessions: it opens the file."""
    path = directory / JOURNAL_FILE
    if role is not Role.PARTICIPANT:
        return good("journal", f"none is needed: the {role} takes part in no round")
    if not path.exists():
        if os.access(directory, os.W_OK):
            return good("journal", f"{path} is not there yet: the first session makes it")
        remedy = f"let this user write into {directory}"
        return fault("journal", f"{path} cannot be made: the directory is read-only to this user", remedy)
    if _is_locked(path):
        remedy = "none is needed if that is this site's session; a second one is refused until the first has ended"
        return warning("journal", f"{path} is in use by another process of this site", remedy)
    try:
        Journal(path).close()
    except StorageError as error:
        return fault("journal", str(error), "mend disk or permissions; never restore a journal from a backup")
    return good("journal", f"{path} can be written, and no other process holds it")


def _is_locked(path: Path) -> bool:
    """A session holds its journal's exclusive lock all the time, so that nobody else can even read."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)) as database:
        try:
            database.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.DatabaseError as error:
            return error.sqlite_errorcode == sqlite3.SQLITE_BUSY
    return False
