"""Small files that must not be lost, half written or read by others: identities, ledgers, rosters."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from aggregator.errors import ParameterError, SangamError, StorageError

T = TypeVar("T")

DIRECTORY_MODE = 0o755  # whatever the umask: who may write into it could put another key in the key's place


def read_file(path: Path) -> bytes:
    """Read one small file.

    Raises:
        StorageError: it cannot be read; says which and why.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from None


def state(path: Path) -> tuple[int, ...]:
    """What tells a file from the one that was there before, unread: inode, size and times; nothing where none is."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Watched(Generic[T]):
    """What files say, read again once they were replaced; where they say nothing of use, what they said before stays.

    Args:
        state: tells the files from those that were there before.
        read: reads them; its argument is what they said before, None at first.

    Raises:
        SangamError: as `read`, for what they say at first.
    """

    def __init__(self, state: Callable[[], object], read: Callable[[T | None], T]) -> None:
        self._state = state
        self._read = read
        self._refused: object = None  # the files' state when they were refused; time may heal them
        self._seen = state()  # before they are read: a write meanwhile is seen the next time
        self.present = read(None)

    def look(self) -> SangamError | None:
        """Read them again if there is reason to; why they are refused, once for each of their states."""
        found = self._state()
        if found == self._seen and self._refused is None:
            return None
        self._seen = found
        try:
            self.present, self._refused = self._read(self.present), None
        except SangamError as error:
            before, self._refused = self._refused, found
            return error if found != before else None
        return None


def write_new(directory: Path, private: Mapping[str, bytes], public: Mapping[str, bytes]) -> None:
    """Write new files, each fsynced; private ones are readable by their owner only from the first byte on.

    Raises:
        ParameterError: one of the files exists; nothing was written.
        StorageError: the disk refused; what was written is gone again.
    """
    taken = [name for name in (*private, *public) if (directory / name).exists()]
    if taken:
        raise ParameterError(f"{directory / taken[0]} exists already and is never overwritten: move it away first")
    written: list[Path] = []
    try:
        directory.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        for files, mode in ((private, 0o600), (public, 0o644)):
            for name, data in files.items():
                _write(directory / name, data, mode)
                written.append(directory / name)
        sync_directory(directory)
    except OSError as error:
        for path in written:
            _remove(path)
        raise StorageError(f"cannot write into {directory}: {error.strerror}") from None


def make_directory(directory: Path) -> None:
    """Make a directory and those above it, unless they are there; StorageError when the disk refuses."""
    try:
        directory.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {directory}: {error.strerror}") from None


def replace_file(path: Path, data: bytes) -> None:
    """Write a public file whole or not at all: who reads it meanwhile finds the old bytes or the new ones.

    Raises:
        StorageError: the disk refused; the file is the old one or, where only the last sync failed, the new one.
    """
    staged = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged.unlink(missing_ok=True)
        _write(staged, data, 0o644)
        staged.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        _remove(staged)
        raise StorageError(f"cannot write {path}: {error.strerror}") from None


def move_into_place(staged: Path, path: Path) -> None:
    """Give a file that was written beside `path` its name, once it is on the disk; the file that had it is gone.

    Raises:
        StorageError: the disk refused; the file at `path` is the old one or, where only the last sync failed, the new.
    """
    try:
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        staged.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        _remove(staged)
        raise StorageError(f"cannot write {path}: {error.strerror}") from None


def append_lines(path: Path, data: bytes) -> None:
    """Add whole lines to the end of a file, fsynced; what a crash left of half a line is cut off first.

    Raises:
        StorageError: the disk refused; the first of the lines may stand, the last of these cut short.
    """
    try:
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
            file.seek(0, os.SEEK_END)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None


def sync_directory(directory: Path) -> None:
    """Make new or replaced names in `directory` survive a power cut; OSError when the disk refuses."""
    if os.name == "posix":  # Windows opens no directories, and keeps names by itself
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write(path: Path, data: bytes, mode: int) -> None:
    """A new file, whole or not at all."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            _remove(path)
            raise


def _remove(path: Path) -> None:
    """After a failure, which is what gets named and not this one's."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
