"""The oracle: the survivors' encoded words, added in the open by the processes that hold the clients."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from aggregator.protocol.encoding import RingVector
from aggregator.wire.vocabulary import Step
from native import ring


class WordSum:
    """The sum of one process's survivors. It never wraps: a ring holds the sum of all clients, by its choice."""

    def __init__(self, entries: int, ring_bits: int) -> None:
        self._total: RingVector = np.zeros(entries, ring.word_dtype(ring_bits))
        self._lock = Lock()

    def add(self, words: RingVector) -> None:
        """Add one client's words."""
        with self._lock:
            ring.add(self._total, words)

    def save(self, path: Path) -> None:
        """Write to one file."""
        np.save(path, self._total)


class Tally:
    """The observer of a surviving client: its words enter the process's sum."""

    def __init__(self, total: WordSum) -> None:
        self._total = total

    def step(self, name: Step) -> None:
        """Nothing happens."""

    def vectors(self, encoded: RingVector, payload: memoryview) -> None:
        """Add what this client is about to send, as it was before any mask."""
        self._total.add(encoded)


def is_exact(words: RingVector, participants: Sequence[str], expected: Sequence[str], files: Iterable[Path]) -> bool:
    """Whether a round's sum is over the expected clients, and equals word by word what their processes added up."""
    if tuple(participants) != tuple(expected):
        return False
    total = np.zeros_like(words)
    for file in files:
        part = np.load(file, mmap_mode="r")
        if part.shape != total.shape or part.dtype != total.dtype:
            return False
        total += part
    return bool(np.array_equal(total, words))
