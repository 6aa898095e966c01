"""The contracts of storage. Every implementation has the listed behaviour; rounds know no more than this file."""

from typing import Protocol


class Staged(Protocol):
    """The bytes of one upload on their way in.

    - `write` appends in order; `read(start, size)` gives bytes that were written, all of them or a StorageError.
    - When a `write` fails, the upload is destroyed: what was written before is not readable as if it were whole.
    - `close` destroys the bytes and gives their room back; it never fails, and may be called twice.
    - A closed or destroyed upload takes and gives nothing: StorageError.
    - Nothing is visible to any other upload, and nothing survives `close`.
    - Calls may come from several threads: a round ends in one while a chunk arrives in another.
    - Bytes need not be copied on their way in or out: what was written must not change afterwards, and what `read` gave
      is read-only, stays as it is, and keeps its memory until the reader drops it.
    """

    def write(self, data: bytes | memoryview) -> None:
        """Append. StorageError when the disk refuses: the upload is lost, the round is not."""

    def read(self, start: int, size: int) -> bytes | memoryview:
        """`size` bytes from `start`. StorageError when they were never written, or the disk fails."""

    def close(self) -> None:
        """Destroy."""


class Spool(Protocol):
    """Room for uploads that are half arrived.

    - At most the budget is held in memory, over all uploads together; what is beyond goes to disk.
    - A declared length allocates nothing: room is taken as bytes arrive.
    """

    def stage(self) -> Staged:
        """Room for one more upload."""
