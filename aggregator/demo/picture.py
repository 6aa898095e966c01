"""One hospital's true updates beside what the server received of them, as a PNG.

Above: rounds downwards, the model's entries across; both in the same colours. Below: how often each word of the ring
occurs. The true updates crowd around the zero point, the received words fill the ring evenly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aggregator.demo.outcome import Round
from aggregator.demo.witness import Words
from aggregator.errors import StorageError
from aggregator.local.draws import Floats
from aggregator.protocol.parameters import Parameters

FILE = "one-hospital.png"
INK, FAINT, PAPER = "#22303c", "#8a97a3", "#ffffff"
SIDES = ("#b2452f", "#2f6db2")
COLOURS = "RdBu_r"
DOTS_PER_INCH = 130
BINS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One hospital's words, rounds by entries, NaN where it was not in the sum; the weight's limbs are left out."""

    hospital: str
    encoded: Floats = field(repr=False)
    masked: Floats = field(repr=False)


def sample(evidence: Path, hospitals: Sequence[str], rounds: Sequence[Round], parameters: Parameters) -> Sample:
    """The words of the hospital that was in the most sums, of at least one round."""
    hospital = max(hospitals, key=lambda name: sum(name in one.participants for one in rounds))
    encoded = np.full((len(rounds), parameters.coded_entries), np.nan)
    masked = encoded.copy()
    for row, one in enumerate(rounds):
        if hospital in one.participants:
            words = Words.load(Words.path(evidence, one.number, hospital))
            encoded[row] = words.encoded[: parameters.coded_entries]
            masked[row] = words.masked(parameters.ring_bits)[: parameters.coded_entries]
    return Sample(hospital, encoded, masked)


def draw(path: Path, shown: Sample, parameters: Parameters) -> None:
    """Write the picture.

    Raises:
        StorageError: it cannot be written.
    """
    figure = Figure(figsize=(12, 7.6), facecolor=PAPER)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.7, 1), left=0.07, right=0.97, top=0.83, bottom=0.17, hspace=0.27)
    ring = 2**parameters.ring_bits
    values = (shown.encoded - parameters.zero_point) * parameters.scale
    most = float(np.nanmax(np.abs(values), initial=parameters.scale))
    _heat(figure, grid[0, 0], values / most, f"{shown.hospital}'s true update", SIDES[0])
    _heat(figure, grid[0, 1], 2 * shown.masked / ring - 1, "what the server received of it", SIDES[1])
    _words(figure, grid[1, 0], shown.encoded, ring, SIDES[0])
    _words(figure, grid[1, 1], shown.masked, ring, SIDES[1])
    _captions(figure, shown, parameters)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=DOTS_PER_INCH)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None


def _heat(figure: Figure, place: Any, values: Floats, title: str, colour: str) -> None:
    axes = figure.add_subplot(place)
    axes.imshow(values, aspect="auto", cmap=COLOURS, vmin=-1, vmax=1, interpolation="nearest")
    axes.set_title(title, loc="left", color=colour, fontsize=15, fontweight="bold", pad=10)
    axes.set_facecolor("#eceff1")
    last = values.shape[1] - 1
    groups = np.linspace(0, last, 4)
    axes.set_xticks([*(groups[:-1] + groups[1:] - 1) / 2, last], ["means", "standard errors", "worst values", "bias"])
    for edge in groups[1:]:
        axes.axvline(edge - 0.5, color=PAPER, linewidth=2)
    rows = sorted({0, len(values) // 2, len(values) - 1})
    axes.set_yticks(rows, [f"round {row + 1}" for row in rows])
    _plain(axes)


def _words(figure: Figure, place: Any, words: Floats, ring: int, colour: str) -> None:
    axes = figure.add_subplot(place)
    counted = words[~np.isnan(words)]
    axes.hist(counted, bins=BINS, range=(0, ring), color=colour, alpha=0.85, rwidth=0.92)
    axes.axhline(len(counted) / BINS, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlim(0, ring)
    axes.set_xticks([0, ring / 2, ring], ["0", f"2$^{{{ring.bit_length() - 2}}}$", f"2$^{{{ring.bit_length() - 1}}}$"])
    axes.set_xlabel("words of the ring, all rounds together; dashed: evenly spread", color=FAINT, fontsize=10)
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.tick_params(length=0, labelcolor=FAINT, labelsize=10)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _captions(figure: Figure, shown: Sample, parameters: Parameters) -> None:
    present = ~np.isnan(shown.encoded)
    related = np.corrcoef(shown.encoded[present], shown.masked[present])[0, 1]
    figure.text(0.07, 0.93, "The same update, before and after its masks", color=INK, fontsize=20, fontweight="bold")
    figure.text(
        0.07,
        0.03,
        f"{parameters.coded_entries} entries of the model in each of {len(present)} rounds, as words of "
        f"{parameters.ring_bits} bits; a blank row: it vanished before its update had arrived. Correlation of left and "
        f"right: {related:+.3f}.\nIn the sum over all hospitals the masks cancel: the server learns that sum, and "
        f"nothing else.",
        color=FAINT,
        fontsize=10,
        linespacing=1.6,
    )
