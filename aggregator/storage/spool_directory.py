"""Uploads of one round that outlive the process: each in a file of the round's directory once it has arrived whole.

Until then it is staged as any other, in memory while there is room, else in that file. A CRC-32 stands in the records
beside each name, so that a file that the disk has changed is found out; against somebody who writes into the directory
it protects nothing.
"""

import mmap
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from zlib import crc32

from aggregator.errors import StorageError
from aggregator.files import sync_directory
from aggregator.storage.base import Octets
from aggregator.storage.spool import MemorySpool, StagedUpload, storage_errors, write_all

PREFIX: Final = "upload-"


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A whole file as the records know it."""

    name: str
    size: int
    checksum: int


class RoundSpool:
    """See `storage.base.Spool`.

    Args:
        memory: the budget that all rounds share.
        directory: the round's; made with its first file.
        sync: whether files are forced to the disk, or left to the system.
    """

    def __init__(self, memory: MemorySpool, directory: Path, *, sync: bool = True) -> None:
        self.memory = memory
        self.directory = directory
        self.sync = sync

    def stage(self) -> "KeptUpload":
        """Room for one more upload."""
        return KeptUpload(self)

    def new_file(self, prefix: str) -> BinaryIO:
        """A new file of its own name, for its owner only. StorageError when there is none to be had."""
        with storage_errors():
            self.directory.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=prefix, dir=self.directory)
            os.close(handle)
            return open(name, "r+b", buffering=0)

    def settle(self, file: BinaryIO) -> None:
        """Force a file and its name to the disk. StorageError when it refuses."""
        if not self.sync:
            return
        with storage_errors():
            os.fdatasync(file.fileno())
            sync_directory(self.directory)

    def write(self, prefix: str, pieces: Iterable[Octets]) -> KeptFile:
        """Write one whole file, forced to the disk. StorageError when it refuses; then nothing is left of it."""
        file = self.new_file(prefix)
        size = checksum = 0
        try:
            with file:
                for piece in pieces:
                    octets = memoryview(piece).cast("B")
                    write_all(file, size, octets)
                    size, checksum = size + len(octets), crc32(octets, checksum)
                self.settle(file)
        except StorageError:
            self.remove(Path(file.name).name)
            raise
        return KeptFile(Path(file.name).name, size, checksum)

    def read(self, file: KeptFile) -> memoryview:
        """What a file holds, mapped.

        Raises:
            StorageError: it is gone, cut short or changed.
        """
        path = self.directory / file.name
        try:
            with path.open("rb") as opened:
                mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # the latter for an empty file
            raise StorageError(f"{path} cannot be read: {error}") from None
        octets = memoryview(mapped)
        if len(octets) != file.size or crc32(octets) != file.checksum:
            raise StorageError(f"{path} is damaged: it has not the bytes that were written")
        return octets

    def remove(self, name: str) -> None:
        """Destroy a file; one that is gone already is no error."""
        with storage_errors(), suppress(FileNotFoundError):
            (self.directory / name).unlink()

    def keep_only(self, names: frozenset[str]) -> None:
        """Destroy what no record names: it was half written when the server was killed."""
        for path in sorted(self.directory.glob("*")):
            if path.name not in names:
                self.remove(path.name)

    def destroy(self) -> None:
        """Destroy all files, and the directory."""
        self.keep_only(frozenset())
        with suppress(OSError):  # a stranger's file in it is no reason to stop: the next start looks again
            self.directory.rmdir()


class KeptUpload(StagedUpload):
    """See `storage.base.Staged`."""

    def __init__(self, spool: RoundSpool) -> None:
        super().__init__(spool.memory)
        self._round = spool
        self._checksum = 0
        self._persisted = False
        self._unwanted = False
        self._path: Path | None = None

    @property
    def name(self) -> str:
        """Of its file, once there is one."""
        return self._path.name if self._path is not None else ""

    @property
    def kept(self) -> KeptFile:
        """As the records know it; of a persisted upload only."""
        return KeptFile(self.name, self._size, self._checksum)

    def persist(self) -> None:
        """Write it into its file where it is not there yet, and force it to the disk."""
        with self._lock:
            self._require_open()
            if self._persisted:
                return  # by a stream that another one took the place of
            try:
                self._round.settle(self._write_file() if self._in_memory else self._whole_file())
                if self._unwanted:
                    raise StorageError("staging an upload: it was given up while it was written")
            except StorageError:
                self._destroy()
                raise
            self._persisted = True

    def close(self) -> None:
        """Give it up, without waiting for the disk that is just taking it: then it is destroyed afterwards."""
        self._unwanted = True
        if self._lock.acquire(blocking=False):
            try:
                self._destroy()
            finally:
                self._lock.release()

    def _append(self, data: memoryview) -> None:
        if self._persisted:
            raise StorageError("staging an upload: it is whole")
        super()._append(data)
        if not self._in_memory:
            self._checksum = crc32(data, self._checksum)

    def _write_file(self) -> BinaryIO:
        for piece in self._pieces:
            self._checksum = crc32(piece, self._checksum)
        return super()._write_file()

    def _open_file(self) -> BinaryIO:
        file = self._round.new_file(PREFIX)
        self._path = Path(file.name)
        return file

    def _destroy(self) -> None:
        super()._destroy()
        if self._path is not None and not self._persisted:
            with suppress(StorageError):  # its bytes are found, and destroyed, at the next start
                self._round.remove(self._path.name)


class FoundUpload:
    """An upload of an earlier process; see `storage.base.Staged`."""

    def __init__(self, octets: memoryview, name: str) -> None:
        self._octets = octets
        self.name = name

    def write(self, data: Octets) -> None:
        """It is whole: StorageError."""
        raise StorageError("staging an upload: it is whole")

    def read(self, start: int, size: int) -> Octets:
        """A view of its file."""
        if not 0 <= start <= start + size <= len(self._octets):
            raise StorageError(f"staging an upload: {size} bytes at {start} of {len(self._octets)} were asked for")
        return self._octets[start : start + size]

    def persist(self) -> None:
        """It is."""

    def close(self) -> None:
        """Give its room back."""
        self._octets = memoryview(b"")
