"""A site's memory across restarts: what it has entered, signed and answered, so that it never does so twice.

    open_context --> fix_context --> sign_survivors --> record_answer
    before the       before any      before the         before the unmasking
    advert leaves    share leaves    signature leaves   answer leaves

Rows are keyed by (deployment, task, round), never by a hash: a server that changes one parameter gets another hash,
not another round. When a method returns, its row is on the disk. No secret is ever here. A row is about 240 bytes,
100,000 rounds about 24 MB, so rows are kept for ever and the journal is never pruned.

One SQLite file. Its exclusive lock is held for the journal's life, so that two processes of one site cannot both
enter a round. A round makes four commits, each one fsync of a log beside the file (`-wal`): 4 ms on a disk where a
rollback journal, with its five, took 12. The log goes into the file when the next round is entered and when the journal
is closed: a file that is moved without it, after a crash, knows each round, and of all but the last what became of it.
All calls come from one asyncio loop: SQLite's own thread check stays on.

A file restored from an old backup has forgotten rounds: never restore one (SECURITY.md).
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeAlias

from aggregator.errors import Equivocation, NotAdmitted, ParameterError, StorageError

RoundKey: TypeAlias = tuple[str, str, int]  # deployment, task, round

APPLICATION_ID = 0x53414E47  # "SANG", in the file's header
SCHEMA_VERSION = 1
PAGE_BYTES = 4096
DIGEST_BYTES = 32
TEXT_MAX = 500

_SCHEMA = """
CREATE TABLE rounds (
    deployment TEXT NOT NULL, task TEXT NOT NULL, round INTEGER NOT NULL,
    ctx0 BLOB NOT NULL, ctx1 BLOB, survivors BLOB, model BLOB,
    PRIMARY KEY (deployment, task, round)
) WITHOUT ROWID;
CREATE INDEX answers ON rounds (deployment, task, model) WHERE model IS NOT NULL;
CREATE TABLE allowances (
    deployment TEXT NOT NULL, task TEXT NOT NULL, model BLOB NOT NULL, reason TEXT NOT NULL, at TEXT NOT NULL
);
CREATE TABLE tasks (
    deployment TEXT NOT NULL, task TEXT NOT NULL, parameters BLOB NOT NULL, PRIMARY KEY (deployment, task)
) WITHOUT ROWID;
CREATE TABLE unnamed (deployment TEXT PRIMARY KEY, task TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE rosters (deployment TEXT PRIMARY KEY, version INTEGER NOT NULL, root BLOB NOT NULL) WITHOUT ROWID;
"""
_SELECT = "SELECT ctx0, ctx1, survivors, model FROM rounds WHERE deployment = ? AND task = ? AND round = ?"
_INSERT = "INSERT INTO rounds (deployment, task, round, ctx0) VALUES (?, ?, ?, ?)"
_SET_CTX1 = "UPDATE rounds SET ctx1 = ? WHERE deployment = ? AND task = ? AND round = ?"
_SET_SURVIVORS = "UPDATE rounds SET survivors = ? WHERE deployment = ? AND task = ? AND round = ?"
_SET_MODEL = "UPDATE rounds SET model = ? WHERE deployment = ? AND task = ? AND round = ?"
_COUNTS = """SELECT
    (SELECT COUNT(*) FROM rounds WHERE deployment = ? AND task = ? AND model = ?),
    (SELECT COUNT(*) FROM allowances WHERE deployment = ? AND task = ? AND model = ?)
"""


class Journal:
    """The journal of one site; a context manager, closed at the end of the block.

    Every method raises StorageError when the disk fails; the caller then sends nothing.

    Raises:
        StorageError: in use by another process, read-only, damaged, not a journal, or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._storage_errors():
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

    def open_context(self, deployment: str, task: str, round_number: int, ctx0: bytes) -> RoundKey:
        """Enter a round, once for ever. Run before the advert leaves.

        Raises:
            Equivocation: this round was entered before, here or in an earlier process, with whatever context.
            ParameterError: malformed names, round or digest.
        """
        key = _check_key((deployment, task, round_number))
        _check_digest(ctx0)
        with self._transaction() as database:
            if _row(database, key) is not None:
                raise Equivocation(
                    f"{_label(key)} was already entered: a round is entered once, a re-run is a new round"
                )
            database.execute(_INSERT, (*key, ctx0))
        self._fold()
        return key

    def fix_context(self, key: RoundKey, ctx1: bytes) -> None:
        """Fix the cohort of a round, once for ever. Run before any share leaves.

        Raises:
            Equivocation: it was fixed before.
            ParameterError: the round was never entered, or a malformed digest.
        """
        _check_digest(ctx1)
        with self._transaction() as database:
            _, fixed, _, _ = _entered(database, key)
            if fixed is not None:
                raise Equivocation(f"{_label(key)}: the cohort was already fixed")
            database.execute(_SET_CTX1, (ctx1, *key))

    def sign_survivors(self, key: RoundKey, survivors: bytes) -> None:
        """Choose the one survivor set of a round. Run before the signature leaves; the same digest may come again.

        Raises:
            Equivocation: another survivor set was signed before.
            ParameterError: the cohort was never fixed, or a malformed digest.
        """
        _check_digest(survivors)
        with self._transaction() as database:
            _, fixed, signed, _ = _entered(database, key)
            if fixed is None:
                raise ParameterError(f"{_label(key)}: survivors before the cohort was fixed")
            if signed not in (None, survivors):
                raise Equivocation(f"{_label(key)}: another survivor set was already signed")
            database.execute(_SET_SURVIVORS, (survivors, *key))

    def record_answer(self, deployment: str, task: str, round_number: int, model: bytes) -> None:
        """Note that this round may reveal a sum over this model. Run before the unmasking answer (or upload) leaves.

        The same answer may be recorded again, since it may be resent.

        Raises:
            Equivocation: another round already did so for this task and model, or this one for another model.
            ParameterError: the round was never entered, or a malformed digest.
        """
        key = _check_key((deployment, task, round_number))
        _check_digest(model)
        with self._transaction() as database:
            _, _, _, recorded = _entered(database, key)
            if recorded not in (None, model):
                raise Equivocation(f"{_label(key)}: the answer was for another model")
            if recorded is None and _spent(database, deployment, task, model):
                raise Equivocation(f"{_label(key)}: an earlier round already answered on this model of the task")
            database.execute(_SET_MODEL, (model, *key))

    def answered(self, deployment: str, task: str, model: bytes) -> bool:
        """Whether this site has used up its contributions to this task on this model. Ask before entering a round."""
        _check_digest(model)
        with self._storage_errors():
            return _spent(self._database, deployment, task, model)

    def allow_again(self, deployment: str, task: str, model: bytes, reason: str, now: datetime) -> None:
        """Let this site contribute exactly once more on the same model. Run by the site's own operator, knowingly.

        Two sums over cohorts that differ by one site reveal that site's update. The reason and the time are kept.

        Raises:
            ParameterError: nothing was answered yet, no reason, or a time without time zone.
        """
        _check_digest(model)
        if not 0 < len(reason.strip()) <= TEXT_MAX or now.tzinfo is None:
            raise ParameterError(
                f"a further contribution needs a reason of 1 to {TEXT_MAX} characters and a time in UTC"
            )
        with self._transaction() as database:
            if not _spent(database, deployment, task, model):
                raise ParameterError(f"task {task} of {deployment}: nothing to allow, a contribution is still possible")
            row = (deployment, task, model, reason, now.astimezone(UTC).isoformat())
            database.execute("INSERT INTO allowances VALUES (?, ?, ?, ?, ?)", row)

    def pin_parameters(self, deployment: str, task: str, parameters: bytes) -> None:
        """Remember what this site agreed to for a task. Run before the update is looked at.

        A server that changed parameters from round to round could read data off what a site refuses: the largest
        weight that it accepts is its number of samples.

        Raises:
            Equivocation: the task had other parameters before.
        """
        _check_digest(parameters)
        with self._transaction() as database:
            query = "SELECT parameters FROM tasks WHERE deployment = ? AND task = ?"
            seen = database.execute(query, (deployment, task)).fetchone()
            if seen is not None and seen[0] != parameters:
                raise Equivocation(
                    f"task {task} of {deployment} has other parameters than this site agreed to: "
                    f"other parameters are another task, under a name of its own"
                )
            database.execute("INSERT OR IGNORE INTO tasks VALUES (?, ?, ?)", (deployment, task, parameters))

    def pin_unnamed_task(self, deployment: str, task: str) -> None:
        """Remember what the server called its only task, for a session that named none.

        Raises:
            Equivocation: it had another name before; the session must say which it means.
        """
        with self._transaction() as database:
            seen = database.execute("SELECT task FROM unnamed WHERE deployment = ?", (deployment,)).fetchone()
            if seen is not None and seen[0] != task:
                raise Equivocation(f"the server's only task was {seen[0]} and is now {task}: name the one you mean")
            database.execute("INSERT OR IGNORE INTO unnamed VALUES (?, ?)", (deployment, task))

    def roster_version(self, deployment: str, version: int, root: bytes) -> None:
        """Remember the highest roster seen. Run after `Roster.verify`, before the roster is used.

        Raises:
            NotAdmitted: an older roster than one seen before.
            Equivocation: two rosters carry this version.
        """
        _check_digest(root)
        with self._transaction() as database:
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
        with self._transaction() as database:
            version, application = _pragma(database, "user_version"), _pragma(database, "application_id")
            if (version, application) == (0, 0) and _pragma(database, "schema_version") == 0:
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
            elif application != APPLICATION_ID:
                raise StorageError(f"{self._path} is a database of another program, not a journal")
            elif version != SCHEMA_VERSION:
                raise StorageError(f"{self._path} has version {version}, this Sangam reads {SCHEMA_VERSION}: update it")
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        if self._database.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise StorageError(f"{self._path} is damaged")
        # Only now, when the file itself says whose it is: without its log it must not pass for a new one.
        self._database.execute("PRAGMA journal_mode = WAL").fetchall()

    def _fold(self) -> None:
        """Write what the log holds into the file."""
        with self._storage_errors():
            self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and on the disk when the block has ended without error."""
        with self._storage_errors():
            self._database.execute("BEGIN EXCLUSIVE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise StorageError(f"{self._path} is in use by another process of this site") from None
            raise StorageError(f"{self._path}: {error}") from None
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{self._path}: {error}") from None


_Row: TypeAlias = tuple[bytes, bytes | None, bytes | None, bytes | None]  # ctx0, ctx1, survivors, model


def _row(database: sqlite3.Connection, key: RoundKey) -> _Row | None:
    row: _Row | None = database.execute(_SELECT, key).fetchone()
    return row


def _entered(database: sqlite3.Connection, key: RoundKey) -> _Row:
    row = _row(database, _check_key(key))
    if row is None:
        raise ParameterError(f"{_label(key)} was never entered")
    return row


def _spent(database: sqlite3.Connection, deployment: str, task: str, model: bytes) -> bool:
    """Answers given, against those allowed: the first needs no allowance, each further one needs its own."""
    answers, allowances = database.execute(_COUNTS, (deployment, task, model) * 2).fetchone()
    return bool(answers > allowances)


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


def _check_key(key: RoundKey) -> RoundKey:
    deployment, task, round_number = key
    if not (0 < len(deployment) <= TEXT_MAX and 0 < len(task) <= TEXT_MAX and 0 <= round_number < 2**63):
        raise ParameterError("a round is named by deployment, task and a number in [0, 2^63)")
    return key


def _check_digest(digest: bytes) -> None:
    if len(digest) != DIGEST_BYTES:
        raise ParameterError(f"a digest of {len(digest)} bytes, needs {DIGEST_BYTES}")


def _label(key: RoundKey) -> str:
    return f"round {key[2]} of task {key[1]}"
