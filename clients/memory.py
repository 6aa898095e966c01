"""What a site remembers across restarts: one SQLite file, held by one process, each row on the disk when it is written.

Its exclusive lock is held for the memory's life, so that two processes of one site cannot both act. Each commit is one
fsync of a log beside the file (`-wal`): 4 ms on a disk where a rollback journal, with its five, took 12. The log goes
into the file when `fold` is called and when the memory is closed. All calls come from one asyncio loop: SQLite's own
thread check stays on.

A file restored from an old backup has forgotten what it said: never restore one (SECURITY.md).
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self, TypeAlias

from aggregator.errors import Equivocation, NotAdmitted, ParameterError, StorageError

RoundKey: TypeAlias = tuple[str, str, int]  # deployment, task, round

SCHEMA_VERSION = 1
PAGE_BYTES = 4096
DIGEST_BYTES = 32
TEXT_MAX = 500

_ROSTERS = """
CREATE TABLE rosters (deployment TEXT PRIMARY KEY, version INTEGER NOT NULL, root BLOB NOT NULL) WITHOUT ROWID;
"""


class Memory:
    """The memory of one site; a context manager, closed at the end of the block.

    Every method raises StorageError when the disk fails; the caller then sends nothing.

    Class attributes: `what` it is, for sentences; its `schema`; and `application_id`, in the file's header.

    Raises:
        StorageError: in use by another process, read-only, damaged, another kind of file, or of a newer version.
    """

    what: ClassVar[str]
    schema: ClassVar[str]
    application_id: ClassVar[int]

    def __init__(self, path: Path) -> None:
        self._path = path
        with self.storage_errors():
            _create_private(path)
            self._database = sqlite3.connect(path, timeout=0, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._database.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock; every later call raises StorageError."""
        self._database.close()

    def roster_version(self, deployment: str, version: int, root: bytes) -> None:
        """Remember the highest roster seen. Run after `Roster.verify`, before the roster is used.

        Raises:
            NotAdmitted: an older roster than one seen before.
            Equivocation: two rosters carry this version.
        """
        check_digest(root)
        with self.transaction() as database:
            query = "SELECT version, root FROM rosters WHERE deployment = ?"
            seen = database.execute(query, (deployment,)).fetchone()
            if seen is not None and version < seen[0]:
                raise NotAdmitted(f"roster of {deployment}: version {version} is older than {seen[0]}, seen before")
            if seen is not None and version == seen[0] and root != seen[1]:
                raise Equivocation(f"roster of {deployment}: two rosters with version {version}")
            database.execute("INSERT OR REPLACE INTO rosters VALUES (?, ?, ?)", (deployment, version, root))

    def _open(self) -> None:
        for pragma in (f"page_size = {PAGE_BYTES}", "locking_mode = EXCLUSIVE", "synchronous = EXTRA"):
            self._database.execute(f"PRAGMA {pragma}")
        # A write, even when nothing is new, takes the lock and finds a read-only file now rather than in a round.
        with self.transaction() as database:
            version, application = _pragma(database, "user_version"), _pragma(database, "application_id")
            if (version, application) == (0, 0) and _pragma(database, "schema_version") == 0:
                for statement in (self.schema + _ROSTERS).split(";"):
                    database.execute(statement)
            elif application != self.application_id:
                raise StorageError(f"{self._path} is a database of another program, not a {self.what}")
            elif version != SCHEMA_VERSION:
                raise StorageError(f"{self._path} has version {version}, this Sangam reads {SCHEMA_VERSION}: update it")
            database.execute(f"PRAGMA application_id = {self.application_id}")
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        if self._database.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise StorageError(f"{self._path} is damaged")
        # Only now, when the file itself says whose it is: without its log it must not pass for a new one.
        self._database.execute("PRAGMA journal_mode = WAL").fetchall()
        # The log is there from the first read on; before it, SQLite refuses to fold.
        self._database.execute("SELECT count(*) FROM sqlite_master").fetchall()

    def fold(self) -> None:
        """Write what the log holds into the file."""
        with self.storage_errors():
            self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and on the disk when the block has ended without error."""
        with self.storage_errors():
            self._database.execute("BEGIN EXCLUSIVE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")

    @contextlib.contextmanager
    def storage_errors(self) -> Iterator[None]:
        """Raise SQLite's errors and the disk's as StorageError."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise StorageError(f"{self._path} is in use by another process of this site") from None
            raise StorageError(f"{self._path}: {error}") from None
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{self._path}: {error}") from None


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _create_private(path: Path) -> None:
    """Create the file for its owner only, or see that an existing one was not cut short.

    SQLite takes a file without a whole page for a new database: a journal cut to nothing would forget all its rounds.
    An existing file is not opened here: closing a second handle on it would drop this process's POSIX locks on it.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if path.stat().st_size < PAGE_BYTES:
            raise StorageError(f"{path} was cut short: remove it only if this site has never taken part") from None


def check_key(key: RoundKey) -> RoundKey:
    """The key, if it is well formed; else ParameterError."""
    deployment, task, round_number = key
    if not (0 < len(deployment) <= TEXT_MAX and 0 < len(task) <= TEXT_MAX and 0 <= round_number < 2**63):
        raise ParameterError("a round is named by deployment, task and a number in [0, 2^63)")
    return key


def check_digest(digest: bytes) -> None:
    """ParameterError for a digest of another length."""
    if len(digest) != DIGEST_BYTES:
        raise ParameterError(f"a digest of {len(digest)} bytes, needs {DIGEST_BYTES}")


def label(key: RoundKey) -> str:
    """For sentences."""
    return f"round {key[2]} of task {key[1]}"
