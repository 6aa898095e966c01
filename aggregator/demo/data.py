"""Breast cancer (Wisconsin, diagnostic): 569 patients, 30 measurements of cell nuclei, malignant or benign.

A quarter is held out for the comparison at the end. The rest is split over the hospitals unevenly and by diagnosis:
some hospitals see hardly anything but malignant cases, others hardly any. A hospital gets its own file, nothing else.

Scaling. Every hospital scales with the same public constants, the ranges that the data set's documentation prints
(which are those of its 569 records): 0 is 30 % up the range, since all measurements have a long upper tail, and one
unit is a sixth of it. Where no such ranges are published, a consortium first takes means and variances from a secure
round of sums; the demo doesn't.

Source: scikit-learn's copy of UCI's "Breast Cancer Wisconsin (Diagnostic)", Wolberg, Street and Mangasarian, 1995.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

from aggregator.local.draws import Floats, Indices, shuffled, uniforms

HELD_OUT = 0.25
RECORDS_LEAST = 3
"""No hospital has fewer records."""

SKEW = 1.3
"""Each diagnosis is dealt out in proportion to exponential draws to this power; 1 would be a flat Dirichlet."""

CENTRE, UNITS = 0.3, 6.0


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Patients: scaled measurements, shape (n, 30), and diagnoses, shape (n,), 1.0 for malignant."""

    features: Floats = field(repr=False)
    labels: Floats = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Indices) -> "Records":
        """Some of them."""
        return Records(self.features[indices], self.labels[indices])

    def save(self, path: Path) -> None:
        """Write to one file."""
        np.savez(path, features=self.features, labels=self.labels)

    @classmethod
    def load(cls, path: Path) -> "Records":
        """Read what `save` wrote."""
        with np.load(path) as file:
            return cls(file["features"], file["labels"])


@dataclass(frozen=True, slots=True)
class Study:
    """The data as the demo deals it out; only the demo itself ever holds it together."""

    names: tuple[str, ...]
    held_out: Records
    shards: tuple[Records, ...]

    @property
    def pooled(self) -> Records:
        """All hospitals' records in one place: what secure aggregation avoids, for the comparison only."""
        features = np.concatenate([shard.features for shard in self.shards])
        return Records(features, np.concatenate([shard.labels for shard in self.shards]))


def deal(sites: int, seed: int) -> Study:
    """Load the data, hold out a quarter and split the rest over that many hospitals; the same for the same seed."""
    source = load_breast_cancer()
    patients = Records(_scaled(source.data), 1.0 - source.target)
    held_out = _held_out(patients.labels, seed)
    training = patients.take(np.flatnonzero(~held_out))
    shards = tuple(training.take(indices) for indices in split(training.labels, sites, seed))
    names = tuple(str(name) for name in source.feature_names)
    return Study(names, patients.take(np.flatnonzero(held_out)), shards)


def split(labels: Floats, sites: int, seed: int) -> list[Indices]:
    """Deal out records so that hospitals differ in size and in diagnoses; every record goes to exactly one."""
    owner = np.empty(len(labels), np.intp)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = members[shuffled(seed, f"records of {label}", len(members))]
        shares = -np.log1p(-uniforms(seed, f"shares of {label}", sites))
        bounds = np.cumsum(shares**SKEW)
        owner[order] = np.searchsorted(bounds[:-1] / bounds[-1], (np.arange(len(order)) + 0.5) / len(order))
    _feed_smallest(owner, sites)
    return [np.flatnonzero(owner == site) for site in range(sites)]


def _feed_smallest(owner: Indices, sites: int) -> None:
    """Move single records from the largest hospital to the smallest until all have the least."""
    while (sizes := np.bincount(owner, minlength=sites)).min() < RECORDS_LEAST:
        owner[np.flatnonzero(owner == sizes.argmax())[0]] = sizes.argmin()


def _scaled(raw: Floats) -> Floats:
    low, high = raw.min(axis=0), raw.max(axis=0)
    return np.asarray(((raw - low) / (high - low) - CENTRE) * UNITS)


def _held_out(labels: Floats, seed: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """A quarter of each diagnosis."""
    chosen = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = shuffled(seed, f"held out of {label}", len(members))
        chosen[members[order[: round(HELD_OUT * len(members))]]] = True
    return chosen
