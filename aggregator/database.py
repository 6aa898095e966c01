"""One SQLite file that must not forget: held by one process, each commit one fsync of a log beside the file (`-wal`).

Its exclusive lock is held for the database's life, so that two processes cannot both act on it, and goes with the
process, however that ends. A commit takes 4 ms on a disk where a rollback journal, with its five fsyncs, took 12.
All calls come from one thread: SQLite's own check stays on.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self

from aggregator.errors import StorageError

PAGE_BYTES = 4096


class Database:
    """A file of tables; a context manager, closed at the end of the block.

    Every method raises StorageError when the disk fails.

    Class attributes:
        what: it is, for sentences.
        holder: who may hold it, one process at a time, for sentences.
        migrations: a script for each version of the schema, which takes it there from the one before.
        application_id: stands in the file's header.

    Raises:
        StorageError: in use by another process, read-only, damaged, another kind of file, or of a newer version.
    """

    what: ClassVar[str]
    holder: ClassVar[str]
    migrations: ClassVar[tuple[str, ...]]
    application_id: ClassVar[int]

    def __init__(self, path: Path) -> None:
        self._path = path
        with self.storage_errors():
            _create_private(path, self.what)
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

    @property
    def connection(self) -> sqlite3.Connection:
        """For reading."""
        return self._database

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
                raise StorageError(f"{self._path} is in use by another process of this {self.holder}") from None
            raise StorageError(f"{self._path}: {error}") from None
        except sqlite3.IntegrityError:
            raise  # a mistake of ours, which no other disk would mend
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{self._path}: {error}") from None

    def _open(self) -> None:
        for pragma in (f"page_size = {PAGE_BYTES}", "locking_mode = EXCLUSIVE", "synchronous = EXTRA"):
            self._database.execute(f"PRAGMA {pragma}")
        # A write, even when nothing is new, takes the lock and finds a read-only file now rather than in a round.
        with self.transaction() as database:
            self._migrate(database)
        if self._database.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise StorageError(f"{self._path} is damaged")
        # Only now, when the file itself says whose it is: without its log it must not pass for a new one.
        self._database.execute("PRAGMA journal_mode = WAL").fetchall()
        # The log is there from the first read on; before it, SQLite refuses to fold.
        self._database.execute("SELECT count(*) FROM sqlite_master").fetchall()

    def _migrate(self, database: sqlite3.Connection) -> None:
        """Take an older schema, or none, to this one, all or nothing."""
        version, application = _pragma(database, "user_version"), _pragma(database, "application_id")
        empty = (version, application) == (0, 0) and _pragma(database, "schema_version") == 0
        if not empty and application != self.application_id:
            raise StorageError(f"{self._path} is a database of another program, not a {self.what}")
        newest = len(self.migrations)
        if version > newest:
            raise StorageError(f"{self._path} has version {version}, this Sangam reads up to {newest}: update it")
        for script in self.migrations[version:]:
            for statement in script.split(";"):
                database.execute(statement)
        database.execute(f"PRAGMA application_id = {self.application_id}")
        database.execute(f"PRAGMA user_version = {newest}")


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _create_private(path: Path, what: str) -> None:
    """Create the file for its owner only, or see that an existing one was not cut short.

    SQLite takes a file without a whole page for a new database: a journal cut to nothing would forget all its rounds.
    An existing file is not opened here: closing a second handle on it would drop this process's POSIX locks on it.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if path.stat().st_size < PAGE_BYTES:
            raise StorageError(f"{path} was cut short: remove it only if this {what} was never used") from None
