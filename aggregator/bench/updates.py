"""The clients' updates: views into one array on disk, which all processes map and nobody copies.

Values are multiples of 2^-15 below 1, so that a float32 sum over 100 clients is exact, and the plain side can be
checked like the secure one. Client i's update starts `i * SHIFT` entries into the array. No value is secret.
"""

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aggregator.crypto import keystream

SHIFT = 1024  # entries, a page
PIECE_ENTRIES = 1 << 15
BITS = 16
PUBLIC_SEED = bytes(32)

Update: TypeAlias = npt.NDArray[np.float32]


def write(path: Path, entries: int, clients: int) -> None:
    """Make the array; the same one every time."""
    size = entries + SHIFT * (clients - 1)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (size,))
    draws = keystream.pieces(PUBLIC_SEED, PUBLIC_SEED, "bench", size, BITS, piece_entries=PIECE_ENTRIES)
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
        """The sum of the first clients' updates, shape (entries,), float32: exact up to 100 clients."""
        out: Update = np.zeros(self._entries, np.float32)
        for client in range(clients):
            out += self.of(client)
        return out
