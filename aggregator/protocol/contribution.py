"""The seam of the modes: what a mode needs of SecAgg+, and what a round needs of a mode.

    client   contribute   make a contribution: the bytes to send
    server   Total        add a contribution; at the end, open the sum

Source: protocol of this project, section 3 and 4; both masked modes run the same five steps.
"""

from typing import Any, Protocol, TypeAlias

import numpy as np

from aggregator.errors import StorageError
from aggregator.protocol.spread import Each
from native.ring import Words

Octets: TypeAlias = bytes | memoryview


class Blinding(Protocol):
    """Adds or removes the masks of SecAgg+, whose seeds it holds."""

    def __call__(self, words: Words, *, ring_bits: int) -> Words:
        """The words under their masks mod 2^ring_bits, or free of them; a new array."""


class Total(Protocol):
    """The running sum of contributions, as they travel. Chunks are those of the parameters' `upload_plan`."""

    def check(self, index: int, data: Octets) -> None:
        """Check one chunk on receipt. MessageError: values outside the ring; nothing has changed."""

    def add(self, index: int, data: Octets) -> None:
        """Add one checked chunk."""

    @property
    def octets(self) -> tuple[Octets, ...]:
        """The sum so far, in pieces, for a process that goes on with it."""

    def restore(self, octets: Octets, contributions: int) -> None:
        """Go on with what `octets` gave, of so many contributions. StorageError: it has another length."""

    def open(self, unblind: Blinding, ctx1: bytes, each: Each) -> Words:
        """The sum of the encoded updates, shape (L,). RoundAborted: the seeds don't fit what was added."""


def whole_words(octets: Octets, dtype: "np.dtype[np.unsignedinteger[Any]]", size: int) -> Words:
    """A kept sum's words, a view. StorageError: there are not so many."""
    if memoryview(octets).nbytes != size * dtype.itemsize:
        raise StorageError(f"a kept sum of {memoryview(octets).nbytes} bytes, expected {size * dtype.itemsize}")
    return np.frombuffer(octets, dtype)
