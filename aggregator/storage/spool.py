"""Half-arrived uploads: in memory up to a budget, beyond it in unlinked temporary files that no crash leaves behind.

In memory an upload is a list of the very pieces that were written: a chunk lies where gRPC received it until it is
added, and is never copied. Small pieces are copied together, so that they cost the memory that is accounted for them.
"""

import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from aggregator.errors import StorageError

DEFAULT_BUDGET_BYTES = 256 << 20
SMALL_BYTES = 4 << 10  # the objects around a piece take up to 0.5 KiB


class MemorySpool:
    """All uploads share `budget_bytes` of memory; the first write beyond it moves its upload to a file.

    Args:
        budget_bytes: memory for all half-arrived uploads together; small pieces take up to an eighth more.
        directory: where files go; None is the system's temporary directory.
        open_file: makes an unlinked, unbuffered binary file; tests give one that is full.
    """

    def __init__(
        self,
        budget_bytes: int = DEFAULT_BUDGET_BYTES,
        directory: Path | None = None,
        open_file: Callable[[Path | None], BinaryIO] | None = None,
    ) -> None:
        self._budget_bytes = budget_bytes
        self._directory = directory
        self._open_file = open_file or _unlinked
        self._lock = Lock()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes in memory now."""
        return self._held_bytes

    def stage(self) -> "StagedUpload":
        """Room for one more upload."""
        return StagedUpload(self)

    def take(self, size: int) -> bool:
        """Reserve memory; False when the budget is spent."""
        with self._lock:
            if self._held_bytes + size > self._budget_bytes:
                return False
            self._held_bytes += size
            return True

    def give_back(self, size: int) -> None:
        """Return reserved memory."""
        with self._lock:
            self._held_bytes -= size

    def open_file(self) -> BinaryIO:
        """An unlinked file. StorageError when there is none to be had."""
        with storage_errors():
            return self._open_file(self._directory)


class StagedUpload:
    """One upload's bytes; see `storage.base.Staged`."""

    def __init__(self, spool: MemorySpool) -> None:
        self._spool = spool
        self._lock = Lock()
        self._pieces: list[bytes | memoryview] = []
        self._starts: list[int] = []  # of each piece, in bytes of the upload
        self._held_bytes = 0
        self._in_memory = True
        self._file: BinaryIO | None = None
        self._size = 0
        self._closed = False

    @property
    def name(self) -> str:
        """None: its file has no name."""
        return ""

    def write(self, data: bytes | memoryview) -> None:
        """Append, in memory while the budget lasts."""
        with self._lock:
            self._require_open()
            try:
                self._append(memoryview(data).toreadonly().cast("B"))
            except StorageError:
                self._destroy()
                raise

    def read(self, start: int, size: int) -> bytes | memoryview:
        """`size` bytes from `start`; from memory, a range within one piece is not copied."""
        with self._lock:
            self._require_open()
            if not 0 <= start <= start + size <= self._size:
                raise StorageError(f"staging an upload: {size} bytes at {start} of {self._size} were asked for")
            if self._in_memory:
                return self._join(start, size)
            return _read_all(self._whole_file(), start, size)

    def persist(self) -> None:
        """Nothing: it goes with the process."""

    def close(self) -> None:
        """Destroy the bytes and give their room back."""
        with self._lock:
            self._destroy()

    def _append(self, data: memoryview) -> None:
        if self._in_memory and not self._spool.take(len(data)):
            self._move_to_file()
        if self._in_memory:
            self._held_bytes += len(data)
            self._keep(data)
        else:
            write_all(self._whole_file(), self._size, data)
        self._size += len(data)

    def _keep(self, data: memoryview) -> None:
        last = self._pieces[-1] if self._pieces else b""
        if len(last) + len(data) <= SMALL_BYTES:  # a new piece for both: readers may hold `last`
            self._pieces[-1:] = [b"".join((last, data))]
            self._starts[-1:] = [self._size - len(last)]
        else:
            self._pieces.append(data if len(data) > SMALL_BYTES else bytes(data))
            self._starts.append(self._size)

    def _join(self, start: int, size: int) -> bytes | memoryview:
        """The range as one: a view where it lies in one piece, else a copy."""
        found: list[memoryview] = []
        at = max(0, bisect_right(self._starts, start) - 1)
        while size:
            offset = start - self._starts[at]
            found.append(memoryview(self._pieces[at])[offset : offset + size])
            start, size, at = start + len(found[-1]), size - len(found[-1]), at + 1
        return found[0] if len(found) == 1 else b"".join(found)

    def _move_to_file(self) -> None:
        self._write_file()
        self._free_memory()
        self._in_memory = False

    def _write_file(self) -> BinaryIO:
        """All that is in memory, in a file."""
        file = self._file = self._open_file()
        for start, piece in zip(self._starts, self._pieces, strict=True):
            write_all(file, start, piece)
        return file

    def _open_file(self) -> BinaryIO:
        return self._spool.open_file()

    def _whole_file(self) -> BinaryIO:
        if self._file is None:
            raise StorageError("staging an upload: its file is gone")
        return self._file

    def _destroy(self) -> None:
        self._closed = True
        self._free_memory()
        if self._file is not None:
            with suppress(OSError):  # the file has no name: its room comes back whatever close() says
                self._file.close()

    def _free_memory(self) -> None:
        self._spool.give_back(self._held_bytes)
        self._held_bytes = 0
        self._pieces, self._starts = [], []

    def _require_open(self) -> None:
        if self._closed:
            raise StorageError("staging an upload: it is closed, or an earlier write failed")


def _unlinked(directory: Path | None) -> BinaryIO:
    return tempfile.TemporaryFile(dir=directory, buffering=0)


def write_all(file: BinaryIO, start: int, data: bytes | memoryview) -> None:
    """An unbuffered write may take only a part, as before a full disk."""
    with storage_errors():
        file.seek(start)
        rest = memoryview(data)
        while rest:
            written = file.write(rest)
            if not written:
                raise StorageError(f"staging an upload: {len(rest)} bytes were not taken")
            rest = rest[written:]


def _read_all(file: BinaryIO, start: int, size: int) -> bytes:
    """An unbuffered read may give only a part."""
    with storage_errors():
        file.seek(start)
        found = bytearray()
        while len(found) < size:
            piece = file.read(size - len(found))
            if not piece:
                raise StorageError(f"staging an upload: {size - len(found)} bytes at {start} are gone")
            found += piece
        return bytes(found)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Raise the disk's errors as StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"staging an upload: {error.strerror}") from None
