"""A key holder's memory across restarts: the key of each round, its secret under its wrapping, and what was decrypted.

    publish ----------> release -----------> destroy
    before the public   before the sum is    before the words leave, or
    key leaves          decrypted, once      when the round has failed

A secret is here only under the task key's wrapping, which the custodians' files open. What is destroyed is overwritten
in the file, and the log beside it is cut; a file system that keeps old blocks, or a snapshot, keeps the wrapped secret.
"""

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from aggregator.errors import Equivocation
from clients.memory import Memory, RoundKey, check_digest, check_key, label

APPLICATION_ID = 0x534B4559  # "SKEY"

_SCHEMA = """
CREATE TABLE rounds (
    deployment TEXT NOT NULL, task TEXT NOT NULL, round INTEGER NOT NULL,
    draft BLOB NOT NULL, ctx0 BLOB NOT NULL, answer BLOB, wrapped BLOB, released BLOB,
    PRIMARY KEY (deployment, task, round)
) WITHOUT ROWID;
"""
_SELECT = "SELECT draft, ctx0, answer, wrapped, released FROM rounds WHERE deployment = ? AND task = ? AND round = ?"
_INSERT = "INSERT INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, NULL)"
_RELEASE = "UPDATE rounds SET released = ? WHERE deployment = ? AND task = ? AND round = ?"
_DESTROY = "UPDATE rounds SET wrapped = NULL, answer = NULL WHERE deployment = ? AND task = ? AND round = ?"
_DESTROY_EARLIER = (
    "UPDATE rounds SET wrapped = NULL, answer = NULL "
    "WHERE deployment = ? AND task = ? AND round < ? AND wrapped IS NOT NULL"
)
_DESTROY_RELEASED = "UPDATE rounds SET wrapped = NULL, answer = NULL WHERE released IS NOT NULL AND wrapped IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Published:
    """A round's key as it left: ctx0 of the draft that asked for it, and of the terms that it is for."""

    draft: bytes
    ctx0: bytes
    answer: bytes = field(repr=False)


class KeyLedger(Memory):
    """The ledger of one key holder; see `Memory` for how it is kept, and for errors."""

    what = "ledger of a key holder"
    schema = _SCHEMA
    application_id = APPLICATION_ID

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with self.storage_errors():
            self._database.execute("PRAGMA secure_delete = ON").fetchall()
        with self.transaction() as database:
            database.execute(_DESTROY_RELEASED)  # of a process that ended between release and destroy
        self._cut_log()

    def published(self, key: RoundKey) -> Published | None:
        """What was published for a round; None where nothing was, or where it is destroyed."""
        with self.storage_errors():
            row = self._database.execute(_SELECT, check_key(key)).fetchone()
        return None if row is None or row[2] is None else Published(*row[:3])

    def publish(self, key: RoundKey, published: Published, wrapped: bytes) -> None:
        """Keep the key of a round, one for ever. Run before the public key leaves.

        Keys of the task's earlier rounds that are still there go: of rounds whose end was never heard of.

        Args:
            key: deployment, task, round.
            published: what is about to leave.
            wrapped: the secret, sealed.

        Raises:
            Equivocation: the round has, or had, a key.
            ParameterError: malformed names, round or digest.
        """
        check_key(key)
        check_digest(published.draft)
        check_digest(published.ctx0)
        row = (published.draft, published.ctx0, published.answer, wrapped)
        with self.transaction() as database:
            if database.execute(_SELECT, key).fetchone() is not None:
                raise Equivocation(f"{label(key)} has had its key: a re-run is a new round")
            database.execute(_INSERT, (*key, *row))
            database.execute(_DESTROY_EARLIER, key)
        self.fold()

    def release(self, key: RoundKey, total: bytes) -> bytes:
        """Choose the one sum of a round, and take its wrapped secret. Run before it is decrypted.

        Args:
            key: deployment, task, round.
            total: H(sum).

        Raises:
            Equivocation: a sum of this round was decrypted before, this or another; or its key is destroyed.
            ParameterError: malformed names, round or digest.
        """
        check_key(key)
        check_digest(total)
        with self.transaction() as database:
            wrapped = _wrapped(database, key)
            database.execute(_RELEASE, (total, *key))
        self.fold()
        return wrapped

    def destroy(self, key: RoundKey) -> None:
        """Forget a round's secret; again changes nothing."""
        with self.transaction() as database:
            database.execute(_DESTROY, check_key(key))
        self._cut_log()

    def _cut_log(self) -> None:
        with self.storage_errors():
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _wrapped(database: sqlite3.Connection, key: RoundKey) -> bytes:
    row = database.execute(_SELECT, key).fetchone()
    if row is None:
        raise Equivocation(f"{label(key)} never had a key here")
    if row[4] is not None:
        raise Equivocation(f"{label(key)}: a sum was already decrypted")
    if row[3] is None:
        raise Equivocation(f"{label(key)}: its key is destroyed")
    return bytes(row[3])
