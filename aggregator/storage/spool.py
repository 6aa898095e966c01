"""Half-arrived uploads: in memory up to a budget, beyond it in unlinked temporary files that no crash leaves behind."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from aggregator.errors import StorageError

DEFAULT_BUDGET_BYTES = 256 << 20


class MemorySpool:
    """All uploads share `budget_bytes` of memory; the first write beyond it moves its upload to a file.

    Args:
        budget_bytes: memory for all half-arrived uploads together.
        directory: where files go; None is the system's temporary directory.
        open_file: makes an unlinked binary file; tests give one that is full.
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
        if self._held_bytes + size > self._budget_bytes:
            return False
        self._held_bytes += size
        return True

    def give_back(self, size: int) -> None:
        """Return reserved memory."""
        self._held_bytes -= size

    def open_file(self) -> BinaryIO:
        """An unlinked file. StorageError when there is none to be had."""
        with _storage_errors():
            return self._open_file(self._directory)


class StagedUpload:
    """One upload's bytes; see `storage.base.Staged`."""

    def __init__(self, spool: MemorySpool) -> None:
        self._spool = spool
        self._memory = bytearray()
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        """Append, in memory while the budget lasts."""
        if self._file is None and self._spool.take(len(data)):
            self._memory += data
            return
        if self._file is None:
            self._move_to_file()
        with _storage_errors():
            self._require_file().write(data)
            self._require_file().flush()

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes from `start`."""
        if self._file is None:
            return bytes(memoryview(self._memory)[start : start + size])
        with _storage_errors():
            self._file.seek(start)
            return self._file.read(size)

    def close(self) -> None:
        """Destroy the bytes and give their room back."""
        self._spool.give_back(len(self._memory))
        self._memory = bytearray()
        if self._file is not None:
            file, self._file = self._file, None
            with _storage_errors():
                file.close()

    def _move_to_file(self) -> None:
        self._file = self._spool.open_file()
        with _storage_errors():
            self._file.write(self._memory)
        self._spool.give_back(len(self._memory))
        self._memory = bytearray()

    def _require_file(self) -> BinaryIO:
        if self._file is None:
            raise StorageError("the upload was closed while it was being written")
        return self._file


def _unlinked(directory: Path | None) -> BinaryIO:
    return tempfile.TemporaryFile(dir=directory, buffering=0)


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"staging an upload: {error.strerror}") from None
