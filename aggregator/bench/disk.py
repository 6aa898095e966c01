"""What the disk alone takes for what a durable server wrote: files of an upload's size, each forced to the disk.

The least of a few times, since others use the disk, too; once file by file, once with several at a time, as a server
does that has several uploads on their way.
"""

import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from aggregator.errors import StorageError

TIMES: Final = 3
AT_ONCE: Final = (1, 4)
SMALL_BYTES: Final = 4096  # a page of the records
SMALL_TIMES: Final = 25
PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk, measured.

    Attributes:
        bytes_per_s: of files of an upload's size, each forced to the disk.
        fsync_s: of a file that grew by 4 KiB, the median.
    """

    bytes_per_s: float
    fsync_s: float

    def bound_s(self, size: float) -> float:
        """The least time that it takes for so many bytes, seconds."""
        return size / self.bytes_per_s


def measure(directory: Path, file_bytes: int, files: int) -> Disk:
    """Measure the disk of a directory; nothing is left there.

    Args:
        directory: on that disk.
        file_bytes: size of one file.
        files: how many.

    Raises:
        StorageError: the disk refuses.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="disk-", dir=directory) as name:
            least_s = min(_write(Path(name), file_bytes, files, at_once) for at_once in AT_ONCE for _ in range(TIMES))
            return Disk(files * file_bytes / least_s, median(_grow(Path(name) / "small")))
    except OSError as error:
        raise StorageError(f"cannot measure the disk of {directory}: {error.strerror}") from None


def _write(directory: Path, file_bytes: int, files: int, at_once: int) -> float:
    """Seconds for all files; they are removed again."""
    piece = os.urandom(min(PIECE_BYTES, file_bytes))
    paths = [directory / f"file-{index}" for index in range(files)]

    def one(path: Path) -> None:
        with path.open("wb", buffering=0) as file:
            for start in range(0, file_bytes, len(piece)):
                file.write(piece[: file_bytes - start])
            os.fdatasync(file.fileno())

    with ThreadPoolExecutor(at_once) as threads:
        start = perf_counter()
        tuple(threads.map(one, paths))
        taken = perf_counter() - start
    for path in paths:
        path.unlink()
    return taken


def _grow(path: Path) -> Iterable[float]:
    with path.open("wb", buffering=0) as file:
        for _ in range(SMALL_TIMES):
            start = perf_counter()
            file.write(bytes(SMALL_BYTES))
            os.fdatasync(file.fileno())
            yield perf_counter() - start
