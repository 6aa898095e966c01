"""Cut points of all features from sums of counts: quantiles that no site could name, and that nobody had to bound.

float32 numbers are ordered as their bits are, so cells are ranges of bit patterns: the first ones, equally wide, cover
all numbers there are, a few to each power of two. Every round of counts cuts a cell that holds records into parts, in
proportion to its records, and merges empty neighbours; after four rounds a cell holds one value, or few records.

    rule: between two neighbouring cells with records lies one candidate, their common edge, or else the middle of the
    gap between them; of the candidates, those whose rank is nearest to 1/bins, 2/bins ... of the records are the cuts

A bin is [cut before, cut), as in XGBoost, where a split's left side is `value < cut`.
"""

from dataclasses import dataclass, field
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

Floats32: TypeAlias = npt.NDArray[np.float32]
Keys: TypeAlias = npt.NDArray[np.int64]
Counts: TypeAlias = npt.NDArray[np.int64]

LARGEST = float(np.finfo(np.float32).max)
SIGN, ALL = np.uint32(1 << 31), np.uint32(0xFFFF_FFFF)


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """The cells that the next round counts: `edges`, shape (features, cells + 1), ascending keys of float32 numbers."""

    edges: Keys = field(repr=False)

    @classmethod
    def start(cls, features: int, cells: int) -> Self:
        """All numbers there are, in cells with equally many of them."""
        low, high = keys(np.array([-LARGEST, LARGEST], np.float32)).tolist()
        return cls(np.tile(_parted(low, high + 1, cells), (features, 1)))

    def count(self, values: Floats32) -> Counts:
        """Run by a site: how many of its records, shape (n, features), are in each cell, shape (features, cells).

        NaN is in none. What lies outside all cells is counted in the nearest.
        """
        cells = self.edges.shape[1] - 1
        counted = np.zeros((len(self.edges), cells), np.int64)
        for feature, (edges, column) in enumerate(zip(self.edges, values.T, strict=True)):
            at = np.searchsorted(edges, keys(column[~np.isnan(column)]), side="right") - 1
            counted[feature] = np.bincount(np.clip(at, 0, cells - 1), minlength=cells)
        return counted

    def refined(self, counts: Counts) -> "Sketch":
        """Run by all: the next round's cells, from the sum of the counts, shape (features, cells)."""
        return Sketch(np.stack([_refined(*one) for one in zip(self.edges, counts, strict=True)]))

    def cuts(self, counts: Counts, bins: int) -> "Cuts":
        """Run by all: the cut points, from the sum of the counts."""
        return Cuts(tuple(_cuts(*one, bins) for one in zip(self.edges, counts, strict=True)))


@dataclass(frozen=True, slots=True)
class Cuts:
    """The cut points of each feature, ascending float32 numbers: one less than it has bins."""

    values: tuple[tuple[float, ...], ...]

    def bins(self, values: Floats32, missing: int) -> npt.NDArray[np.intp]:
        """The bin of each value, shape (n, features): how many cuts it is not below; `missing` for NaN."""
        found = np.empty(values.shape, np.intp)
        for feature, cuts in enumerate(self.values):
            column = values[:, feature]
            at = np.searchsorted(np.array(cuts, np.float32), column, side="right")
            found[:, feature] = np.where(np.isnan(column), missing, at)
        return found

    def left_of(self, feature: int, first_right: int) -> float:
        """What a split compares with when `first_right` is the first bin on its right; there may be none left of it."""
        if first_right == 0:
            return -LARGEST
        cuts = self.values[feature]
        return cuts[first_right - 1] if first_right <= len(cuts) else LARGEST


def keys(values: Floats32) -> Keys:
    """Integers in the order of the numbers; 0 and -0 have one."""
    bits = (values + np.float32(0.0)).view(np.uint32)
    return np.where(bits & SIGN, bits ^ ALL, bits ^ SIGN).astype(np.int64)


def numbers(ordered: Keys) -> Floats32:
    """The numbers of such keys."""
    bits = ordered.astype(np.uint32)
    return np.where(bits & SIGN, bits ^ SIGN, bits ^ ALL).astype(np.uint32).view(np.float32)


def _parted(low: int, high: int, parts: int) -> Keys:
    """Edges of equally wide parts, in whole numbers: the same on every machine."""
    return low + (high - low) * np.arange(parts + 1, dtype=np.int64) // parts


def _refined(edges: Keys, counts: Counts) -> Keys:
    """One feature's. As many cells as before, the last ones of no width where not all are needed."""
    cells, full = len(counts), np.flatnonzero(counts)
    if not full.size:
        return edges
    gaps = np.count_nonzero(edges[full[1:]] != edges[full[:-1] + 1])
    parts = 1 + (cells - full.size - gaps) * counts[full] // counts.sum()
    pieces = [_parted(edges[i], edges[i + 1], part) for i, part in zip(full, parts, strict=True)]
    fine = np.unique(np.concatenate(pieces))
    return np.concatenate([fine, np.full(cells + 1 - fine.size, fine[-1])])


def _cuts(edges: Keys, counts: Counts, bins: int) -> tuple[float, ...]:
    full = np.flatnonzero(counts)
    if full.size < 2:
        return ()
    ranks = np.cumsum(counts[full])
    below, above = numbers(edges[full[:-1] + 1]).astype(np.float64), numbers(edges[full[1:]]).astype(np.float64)
    candidates = (below / 2 + above / 2).astype(np.float32)
    chosen = _nearest(ranks[:-1], int(ranks[-1]), bins)
    return tuple(float(cut) for cut in candidates[chosen])


def _nearest(ranks: Counts, total: int, bins: int) -> npt.NDArray[np.intp]:
    """Which ranks are nearest to total · 1/bins, 2/bins, ...; the lower of two that are equally near."""
    if ranks.size < bins:
        return np.arange(ranks.size)
    targets = total * np.arange(1, bins)
    scaled = ranks * bins  # whole numbers on both sides
    above = np.clip(np.searchsorted(scaled, targets), 1, ranks.size - 1)
    lower = targets - scaled[above - 1] <= scaled[above] - targets
    return np.unique(above - lower)
