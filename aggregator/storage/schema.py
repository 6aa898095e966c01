"""The tables of a server's records, and how they came to be as they are: one script for each version."""

from typing import Final

from aggregator.database import Database

LOG_BYTES: Final = 4 << 20  # SQLite begins it anew after 1,000 pages
APPLICATION_ID: Final = 0x53414E53  # "SANS"

_VERSION_1: Final = """
CREATE TABLE tasks (
    name TEXT PRIMARY KEY, owner TEXT NOT NULL, spec BLOB NOT NULL, created_s REAL NOT NULL,
    cancelled INTEGER NOT NULL DEFAULT 0, started INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE deleted (place INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, owner TEXT NOT NULL);
CREATE TABLE keys (
    operator TEXT NOT NULL, task TEXT NOT NULL, key TEXT NOT NULL, request BLOB NOT NULL, round INTEGER NOT NULL,
    expires_s REAL NOT NULL, PRIMARY KEY (operator, task, key)
) WITHOUT ROWID;
CREATE TABLE rounds (
    task TEXT NOT NULL, number INTEGER NOT NULL, started_s REAL NOT NULL, model_hash BLOB NOT NULL,
    terms BLOB, roster BLOB, invited TEXT, PRIMARY KEY (task, number)
) WITHOUT ROWID;
CREATE TABLE rosters (hash BLOB PRIMARY KEY, octets BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE parties (
    task TEXT NOT NULL, number INTEGER NOT NULL, party INTEGER NOT NULL, certificate BLOB NOT NULL,
    PRIMARY KEY (task, number, party)
) WITHOUT ROWID;
CREATE TABLE steps (
    task TEXT NOT NULL, number INTEGER NOT NULL, step TEXT NOT NULL, deadline_s REAL NOT NULL, members TEXT,
    PRIMARY KEY (task, number, step)
) WITHOUT ROWID;
CREATE TABLE answers (
    task TEXT NOT NULL, number INTEGER NOT NULL, step TEXT NOT NULL, member INTEGER NOT NULL, message BLOB NOT NULL,
    PRIMARY KEY (task, number, step, member)
) WITHOUT ROWID;
CREATE TABLE uploads (
    task TEXT NOT NULL, number INTEGER NOT NULL, step TEXT NOT NULL, member INTEGER NOT NULL, header BLOB NOT NULL,
    file TEXT NOT NULL, size INTEGER NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (task, number, step, member)
) WITHOUT ROWID;
CREATE TABLE sums (
    task TEXT NOT NULL, number INTEGER NOT NULL, step TEXT NOT NULL, members TEXT NOT NULL,
    file TEXT NOT NULL, size INTEGER NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (task, number)
) WITHOUT ROWID;
CREATE TABLE results (
    task TEXT NOT NULL, number INTEGER NOT NULL, terms BLOB NOT NULL, survivors TEXT NOT NULL, state TEXT NOT NULL,
    file TEXT NOT NULL, size INTEGER NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (task, number)
) WITHOUT ROWID;
CREATE TABLE ends (
    task TEXT NOT NULL, number INTEGER NOT NULL, summary BLOB NOT NULL, ended_s REAL NOT NULL,
    ending BLOB, told TEXT NOT NULL, PRIMARY KEY (task, number)
) WITHOUT ROWID;
CREATE TABLE events (
    task TEXT NOT NULL, number INTEGER NOT NULL, place INTEGER NOT NULL, event BLOB NOT NULL,
    PRIMARY KEY (task, number, place)
) WITHOUT ROWID;
CREATE TABLE audit (seq INTEGER PRIMARY KEY, line TEXT NOT NULL)
"""

ROUND_NEEDS: Final = ("steps", "answers", "uploads", "sums")  # until it ends
ROUND_KEEPS: Final = ("parties", "results", "ends", "events", "rounds")


class RecordsDatabase(Database):
    """A server's records; see `Database` for how they are kept, and for errors."""

    what = "server's records"
    holder = "server"
    migrations = (_VERSION_1,)
    application_id = APPLICATION_ID

    def fill_log(self) -> None:
        """Let the log beside the file have its full size from the start; StorageError when the disk refuses.

        A commit that overwrites needs no new blocks, so it does not wait for uploads that are forced to the disk at the
        same moment: beside six of 3 MB, on ext4, it took 7 ms, in a log that still grew 12.
        """
        with self.transaction() as database:
            database.execute("CREATE TABLE filler (octets BLOB)")
            database.execute("INSERT INTO filler VALUES (zeroblob(?))", (LOG_BYTES,))
            database.execute("DROP TABLE filler")
        with self.storage_errors():
            self.connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
