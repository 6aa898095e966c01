"""An auditor's memory across restarts: which list it froze in each round, and which sum it signed; one each, for ever.

    freeze ---------> sign_sum
    before the list's before the sum's
    signature leaves  signature leaves

The same again is no error: an answer may be resent.
"""

import sqlite3

from aggregator.errors import Equivocation
from clients.memory import Memory, RoundKey, check_digest, check_key, label

APPLICATION_ID = 0x53415544  # "SAUD"

_SCHEMA = """
CREATE TABLE rounds (
    deployment TEXT NOT NULL, task TEXT NOT NULL, round INTEGER NOT NULL,
    ctx0 BLOB NOT NULL, root BLOB NOT NULL, sum BLOB,
    PRIMARY KEY (deployment, task, round)
) WITHOUT ROWID;
"""
_SELECT = "SELECT ctx0, root, sum FROM rounds WHERE deployment = ? AND task = ? AND round = ?"
_INSERT = "INSERT INTO rounds (deployment, task, round, ctx0, root) VALUES (?, ?, ?, ?, ?)"
_SET_SUM = "UPDATE rounds SET sum = ? WHERE deployment = ? AND task = ? AND round = ?"


class AuditLedger(Memory):
    """The ledger of one auditor; see `Memory` for how it is kept, and for errors."""

    what = "ledger of an auditor"
    schema = _SCHEMA
    application_id = APPLICATION_ID

    def freeze(self, key: RoundKey, ctx0: bytes, root: bytes) -> None:
        """Fix the one list of a round. Run before its signature leaves.

        Raises:
            Equivocation: another list was frozen, or the round was audited without one, under whatever context.
            ParameterError: malformed names, round or digest.
        """
        check_key(key)
        check_digest(root)
        with self.transaction() as database:
            _fix(database, key, ctx0, root)
        self.fold()

    def check_frozen(self, key: RoundKey, ctx0: bytes, root: bytes) -> None:
        """Whether this is the list that was frozen. Run before a round's ciphertexts are read.

        Raises:
            Equivocation: it is not, or none was.
        """
        with self.storage_errors():
            found = self._database.execute(_SELECT, key).fetchone()
        if found is None or (found[0], found[1]) != (ctx0, root):
            raise Equivocation(f"{label(key)}: this list was never frozen here")

    def sign_sum(self, key: RoundKey, ctx0: bytes, root: bytes, *, total: bytes) -> None:
        """Choose the one sum of a round. Run before its signature leaves.

        Args:
            key: deployment, task, round.
            ctx0: of the round.
            root: of its list; where nothing is frozen it is fixed here.
            total: digest of (ctx1, U, H(sum)).

        Raises:
            Equivocation: another list was frozen, or another sum signed.
            ParameterError: malformed names, round or digest.
        """
        check_key(key)
        check_digest(total)
        with self.transaction() as database:
            signed = _fix(database, key, ctx0, root)
            if signed not in (None, total):
                raise Equivocation(f"{label(key)}: another sum was already signed")
            database.execute(_SET_SUM, (total, *key))
        self.fold()


def _fix(database: sqlite3.Connection, key: RoundKey, ctx0: bytes, root: bytes) -> bytes | None:
    """Enter a round with its list, or find it with the same; the digest of the sum that was signed."""
    row: tuple[bytes, bytes, bytes | None] | None = database.execute(_SELECT, key).fetchone()
    if row is None:
        check_digest(ctx0)
        database.execute(_INSERT, (*key, ctx0, root))
        return None
    if (row[0], row[1]) != (ctx0, root):
        raise Equivocation(f"{label(key)}: another list was already frozen")
    return row[2]
