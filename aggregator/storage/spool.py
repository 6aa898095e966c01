"""Half-arrived uploads: in memory up to a budget, beyond it in unlinked temporary files that no crash leaves behind."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from aggregator.errors import StorageError

DEFAULT_BUDGET_BYTES = 256 << 20


class MemorySpool:
    """All uploads share `budget_bytes` of memory; the first write beyond it moves its upload to a file.

    Args:
        budget_bytes: memory for all half-arrived uploads together; a growing buffer takes up to an eighth more.
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
        with _storage_errors():
            return self._open_file(self._directory)


class StagedUpload:
    """One upload's bytes; see `storage.base.Staged`."""

    def __init__(self, spool: MemorySpool) -> None:
        self._spool = spool
        self._lock = Lock()
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._size = 0
        self._closed = False

    def write(self, data: bytes) -> None:
        """Append, in memory while the budget lasts."""
        with self._lock:
            self._require_open()
            try:
                self._append(data)
            except StorageError:
                self._destroy()
                raise

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes from `start`."""
        with self._lock:
            self._require_open()
            if not 0 <= start <= start + size <= self._size:
                raise StorageError(f"staging an upload: {size} bytes at {start} of {self._size} were asked for")
            if self._file is None:
                return bytes(memoryview(self._memory)[start : start + size])
            return _read_all(self._file, start, size)

    def close(self) -> None:
        """Destroy the bytes and give their room back."""
        with self._lock:
            self._destroy()

    def _append(self, data: bytes) -> None:
        if self._file is None and not self._spool.take(len(data)):
            self._move_to_file()
        if self._file is None:
            self._memory += data
        else:
            _write_all(self._file, self._size, data)
        self._size += len(data)

    def _move_to_file(self) -> None:
        self._file = self._spool.open_file()
        _write_all(self._file, 0, self._memory)
        self._free_memory()

    def _destroy(self) -> None:
        self._closed = True
        self._free_memory()
        if self._file is not None:
            with suppress(OSError):  # the file has no name: its room comes back whatever close() says
                self._file.close()

    def _free_memory(self) -> None:
        self._spool.give_back(len(self._memory))
        self._memory = bytearray()

    def _require_open(self) -> None:
        if self._closed:
            raise StorageError("staging an upload: it is closed, or an earlier write failed")


def _unlinked(directory: Path | None) -> BinaryIO:
    return tempfile.TemporaryFile(dir=directory, buffering=0)


def _write_all(file: BinaryIO, start: int, data: bytes | bytearray) -> None:
    """An unbuffered write may take only a part, as before a full disk."""
    with _storage_errors():
        file.seek(start)
        rest = memoryview(data)
        while rest:
            written = file.write(rest)
            if not written:
                raise StorageError(f"staging an upload: {len(rest)} bytes were not taken")
            rest = rest[written:]


def _read_all(file: BinaryIO, start: int, size: int) -> bytes:
    """An unbuffered read may give only a part."""
    with _storage_errors():
        file.seek(start)
        found = bytearray()
        while len(found) < size:
            piece = file.read(size - len(found))
            if not piece:
                raise StorageError(f"staging an upload: {size - len(found)} bytes at {start} are gone")
            found += piece
        return bytes(found)


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"staging an upload: {error.strerror}") from None
