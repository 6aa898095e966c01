"""How a training went, as a PNG: each metric by round, then how many sites were in each sum and how long it took."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aggregator.errors import StorageError
from clients.training.history import Line

INK, FAINT, LINE = "#22303c", "#8a97a3", "#2f6db2"
WIDTH, HEIGHT = 9.0, 1.9  # of the picture, and of one curve, inches
DOTS_PER_INCH = 130
SITES = "sites in the sum"


def draw(path: Path, task: str, lines: Sequence[Line]) -> None:
    """Write the picture; StorageError when the disk refuses.

    Args:
        path: where to.
        task: its title.
        lines: the rounds that have closed, in order.
    """
    curves = _curves(lines)
    figure = Figure(figsize=(WIDTH, HEIGHT * len(curves) + 0.6), layout="constrained")
    figure.suptitle(f"{task}: {len(lines)} rounds", x=0.01, ha="left", color=INK, weight="bold")
    panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (name, values) in zip(panels, curves.items(), strict=True):
        places = range(1, len(values) + 1)
        panel.plot(places, values, color=LINE, marker="o", markersize=3)
        if name == SITES:
            panel.set_ylim(0, max(values, default=1) * 1.15)
            panel.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        panel.set_title(name, loc="left", fontsize=10, color=INK)
        panel.grid(axis="y", color=FAINT, alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(colors=FAINT)
    panels[-1].set_xlabel("round", color=INK)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[-1].set_xlim(0.5, max(len(lines), 1) + 0.5)
    try:
        figure.savefig(path, dpi=DOTS_PER_INCH, format="png")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None


def _curves(lines: Sequence[Line]) -> dict[str, list[float]]:
    """By title, a value for each round; NaN where there is none, so that the curve has a gap."""
    names = dict.fromkeys(name for line in lines for name in line.metrics)
    found = {name: [line.metrics.get(name, float("nan")) for line in lines] for name in names}
    found[SITES] = [float(line.sites) for line in lines]
    found["seconds, where the operator looked on"] = [line.seconds or float("nan") for line in lines]
    return found
