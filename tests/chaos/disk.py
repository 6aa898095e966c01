"""A small disk for the server's state, which fills up and is freed again.

With the right to mount it is a tmpfs, where a full disk says ENOSPC as any disk would. Without, the largest size of a
file that the server's process may write is lowered meanwhile, and what it writes beyond fails with EFBIG.
"""

import resource
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

TMPFS_BYTES: Final = 512 << 20
BLOCK_BYTES: Final = 1 << 20
FILE_BYTES: Final = 16 << 10  # fewer than the database has
BALLAST: Final = "ballast"


class Disk(ABC):
    """Where the server's state is: `directory`; `kind` says by which means it fills up."""

    kind: str

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @abstractmethod
    def fill(self, pid: int) -> None:
        """Let no byte more be written by the server of this process id."""

    @abstractmethod
    def free(self, pid: int) -> None:
        """As it was."""


class SmallDisk(Disk):
    """A tmpfs of its own."""

    kind = "tmpfs, ENOSPC"

    def fill(self, pid: int) -> None:
        """Write ballast until the disk is full."""
        with (self.directory / BALLAST).open("ab", buffering=0) as file:
            for size in (BLOCK_BYTES, 1 << 10):
                with suppress(OSError):
                    while file.write(bytes(size)):
                        pass

    def free(self, pid: int) -> None:
        """Take the ballast away."""
        (self.directory / BALLAST).unlink(missing_ok=True)


class SmallFiles(Disk):
    """A directory of any disk."""

    kind = "RLIMIT_FSIZE, EFBIG"

    def fill(self, pid: int) -> None:
        """Lower the limit."""
        self._limit(pid, FILE_BYTES)

    def free(self, pid: int) -> None:
        """Lift it."""
        self._limit(pid, resource.RLIM_INFINITY)

    def _limit(self, pid: int, size: int) -> None:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@contextmanager
def small_disk(directory: Path, *, mounts: bool = True) -> Iterator[Disk]:
    """A disk at this place, which is made."""
    directory.mkdir()
    if not mounts or not _mount(directory):
        yield SmallFiles(directory)
        return
    try:
        yield SmallDisk(directory)
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def _mount(directory: Path) -> bool:
    options = f"size={TMPFS_BYTES},mode=700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
