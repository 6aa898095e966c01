"""What a server decided, line by line in a file that only grows; each line holds the hash of the one before.

    {"seq": 7, "at": "2026-11-29T07:31:02.113Z", "what": "survivors", "task": ..., "round": ..., "previous": "9f3c..."}

`previous` is the SHA-256 of the line before, without its end; the first has that of nothing. So whoever holds the hash
of one line holds all before it. The records' database holds the last line, and those that are not in the file yet: a
file that was cut or changed at its end is found out at the next start; one that was changed elsewhere by `verify`.
What it proves is that nothing was taken out or changed since somebody noted a hash, not that the server told the truth.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from aggregator.errors import StorageError
from aggregator.files import sync_directory
from aggregator.storage.base import Fact
from aggregator.storage.writer import Writer

AUDIT_FILE: Final = "audit.jsonl"
NOTHING: Final = sha256().hexdigest()
LINE_BYTES_MAX: Final = 4 << 20  # the names of 10,000 sites, and more


@dataclass(frozen=True, slots=True)
class Head:
    """The last line: its place, from 0, -1 where there is none, and its hash."""

    seq: int = -1
    hash: str = NOTHING

    @classmethod
    def of(cls, line: str) -> "Head":
        """Of a line. StorageError: it is none."""
        return cls(_parse(line)[0], sha256(line.encode()).hexdigest())


class Chain:
    """Makes the lines, one after the other.

    Args:
        head: the last one that was made.
        now: the wall clock, unix seconds.
    """

    def __init__(self, head: Head, now: Callable[[], float]) -> None:
        self.head = head
        self._now = now

    def line(self, what: str, facts: dict[str, Fact]) -> str:
        """The next line."""
        at = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        value = {"seq": self.head.seq + 1, "at": at, "what": what, **facts, "previous": self.head.hash}
        line = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
        self.head = Head.of(line)
        return line


class AuditFile:
    """The file, held by its server.

    Args:
        path: where it is.
        pending: the lines that the records hold, oldest first; all but the first may be missing from the file.

    Raises:
        StorageError: the file was cut or changed, or the disk refuses.
    """

    def __init__(self, path: Path, pending: Sequence[str]) -> None:
        self._path = path
        self._end = 0
        self.filed = Head.of(pending[-1]).seq if pending else -1
        if not path.exists() and pending and Head.of(pending[0]).seq > 0:
            raise StorageError(f"{path} is gone: the records say that it had {Head.of(pending[-1]).seq + 1} lines")
        try:
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
            sync_directory(path.parent)
        except OSError as error:
            raise StorageError(f"cannot open {path}: {error.strerror}") from None
        try:
            self.append(self._missing(pending))
        except StorageError:
            self.close()
            raise

    def append(self, lines: Sequence[str]) -> None:
        """Add lines, on the disk when this returns. StorageError: the disk refuses; again it is tried anew."""
        data = "".join(f"{line}\n" for line in lines).encode()
        try:
            os.ftruncate(self._file.fileno(), self._end)  # what a crash or a full disk left of half a line
            if os.pwrite(self._file.fileno(), data, self._end) != len(data):
                raise StorageError(f"cannot write {self._path}: no room")
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror}") from None
        self._end += len(data)
        self.filed = max([self.filed, *(Head.of(line).seq for line in lines)])

    def close(self) -> None:
        """Let it go."""
        self._file.close()

    def _missing(self, pending: Sequence[str]) -> Sequence[str]:
        """Those of the records' lines that are not in the file; finds where its last whole line ends."""
        last = self._last_line()
        known = [line.encode() for line in pending]
        if not last and (not known or Head.of(pending[0]).seq == 0):
            return pending
        if last not in known:
            raise StorageError(f"{self._path} was cut or changed: its last line is not one that the records have")
        return pending[known.index(last) + 1 :]

    def _last_line(self) -> bytes:
        size = os.fstat(self._file.fileno()).st_size
        tail = os.pread(self._file.fileno(), LINE_BYTES_MAX, max(0, size - LINE_BYTES_MAX))
        whole = tail[: tail.rfind(b"\n") + 1]
        self._end = size - (len(tail) - len(whole))
        return whole[:-1].rpartition(b"\n")[2]


class AuditLog:
    """Says each line to the records first, then to the file.

    Args:
        writer: of the records.
        chain: makes the lines.
        file: theirs.
    """

    def __init__(self, writer: Writer, chain: Chain, file: AuditFile) -> None:
        self._writer = writer
        self._chain = chain
        self._file = file

    def decided(self, what: str, facts: dict[str, Fact]) -> None:
        """One line more."""
        line = self._chain.line(what, facts)
        self._writer.say("INSERT INTO audit VALUES (?, ?)", self._chain.head.seq, line)
        self._writer.afterwards(partial(self._file.append, (line,)))
        self._writer.say("DELETE FROM audit WHERE seq < ?", self._file.filed)  # which tells the file's end from another


def verify(lines: Iterable[str], head: str = "") -> Head:
    """Check a whole file, line by line, without their ends; its last line.

    Args:
        lines: from the first on.
        head: the hash of a line that somebody noted; it must be among these.

    Raises:
        StorageError: names the first line that does not fit the one before it, or says that the noted one is missing.
    """
    at, found = Head(), not head
    for line in lines:
        if _parse(line) != (at.seq + 1, at.hash):
            raise StorageError(
                f"line {at.seq + 2} does not follow the one before it: something was changed or taken out"
            )
        at = Head.of(line)
        found = found or at.hash == head
    if not found:
        raise StorageError(f"no line has the hash {head}: the file was cut, or changed before that line")
    return at


def _parse(line: str) -> tuple[int, str]:
    """A line's place, and the hash of the one before. StorageError: it is no line of an audit log."""
    try:
        value = json.loads(line)
    except ValueError:
        raise StorageError("a line of the audit log is no JSON") from None
    match value:
        case {"seq": int(seq), "previous": str(previous)}:
            return seq, previous
    raise StorageError("a line of the audit log is not one of its lines")
