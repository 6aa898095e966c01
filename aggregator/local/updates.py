"""The clients' updates: views into one array on disk, which all processes map and nobody copies.

Values are multiples of 2^-10 below 1, so that a float32 sum over 10,000 clients is exact, and the plain side can be
checked like the secure one. Client i's update starts `i * SHIFT` entries into the array. No value is secret.

And the oracle of the secure side: the survivors' encoded words, added in the open by the processes that hold them.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aggregator.crypto import keystream
from aggregator.protocol.encoding import RingVector
from clients.contribution import Observer
from native import ring

SHIFT = 1024  # entries, a page
PIECE_ENTRIES = 1 << 15
BITS = 11
PUBLIC_SEED = bytes(32)

Update: TypeAlias = npt.NDArray[np.float32]


def write(path: Path, entries: int, clients: int, seed: int = 0) -> None:
    """Make the array; the same one for a seed every time."""
    size = entries + SHIFT * (clients - 1)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (size,))
    label = sha256(f"{seed}".encode()).digest()
    draws = keystream.pieces(label, PUBLIC_SEED, "bench", size, BITS, piece_entries=PIECE_ENTRIES)
    for at, piece in zip(range(0, size, PIECE_ENTRIES), draws, strict=True):
        values = piece.astype(np.float32)
        values -= 2.0 ** (BITS - 1)
        np.multiply(values, np.float32(2.0 ** (1 - BITS)), out=out[at : at + PIECE_ENTRIES])
    out.flush()


class Updates:
    """The array, mapped; one view per client."""

    def __init__(self, path: Path, entries: int) -> None:
        self._array: Update = np.asarray(np.load(path, mmap_mode="r"))
        self._entries = entries

    def of(self, client: int) -> Update:
        """One client's update, shape (entries,), float32, read-only."""
        return self._array[client * SHIFT :][: self._entries]

    def total(self, clients: int) -> Update:
        """The sum of the first clients' updates, shape (entries,), float32, exact."""
        out: Update = np.zeros(self._entries, np.float32)
        for client in range(clients):
            out += self.of(client)
        return out


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


class Tally(Observer):
    """The observer of a surviving client: its words enter the process's sum."""

    def __init__(self, total: WordSum) -> None:
        self._total = total

    def vectors(self, encoded: RingVector, payload: memoryview) -> None:
        """Add what this client is about to send, as it was before any mask."""
        self._total.add(encoded)


def is_exact(
    words: RingVector, participants: Sequence[object], expected: Sequence[object], files: Iterable[Path]
) -> bool:
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
