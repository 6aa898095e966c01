"""What a site remembers across restarts: one SQLite file, held by one process, each row on the disk when it is written.

All calls come from one asyncio loop. The log goes into the file when `fold` is called and when the memory is closed.

A file restored from an old backup has forgotten what it said: never restore one (SECURITY.md).
"""

from typing import ClassVar, TypeAlias

from aggregator.database import Database
from aggregator.errors import Equivocation, NotAdmitted, ParameterError

RoundKey: TypeAlias = tuple[str, str, int]  # deployment, task, round

DIGEST_BYTES = 32
TEXT_MAX = 500

_ROSTERS = """
CREATE TABLE rosters (deployment TEXT PRIMARY KEY, version INTEGER NOT NULL, root BLOB NOT NULL) WITHOUT ROWID;
"""


class Memory(Database):
    """The memory of one site; see `Database` for how it is kept, and for errors: after one, the caller sends nothing.

    Class attributes: `schema` is its tables beside the rosters'.
    """

    holder = "site"
    schema: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        cls.migrations = (cls.schema + _ROSTERS,)

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
