"""Draw what one run of the benchmarks measured: docs/performance.png, beside the table that report.py writes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

COLOURS = {"lattice": "#1b6ca8", "pairwise": "#c8553d", "plain": "#7a7a7a"}

Runs = Sequence[Mapping[str, Any]]


def draw(run: Mapping[str, Any], source: str, target: Path) -> None:
    """Two pictures: where the modes' times cross, and a secure round beside the plain sum."""
    found = run["benchmarks"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    crossover(left, [one for one in found if one["name"].startswith("test_lattice_over_pairwise")])
    growth(right, next(one["extra_info"]["by_length"] for one in found if one["name"] == "test_growth_in_length"))
    figure.supxlabel(source, fontsize=6, color="#7a7a7a")
    figure.savefig(target, dpi=110)
    pyplot.close(figure)


def crossover(axes: Axes, found: Runs) -> None:
    """The server's and a client's own time by length, in both modes."""
    for side, style in (("server", "-"), ("client", ":")):
        runs = sorted((one for one in found if one["params"]["side"] == side), key=lambda one: one["params"]["entries"])
        lengths = [one["params"]["entries"] for one in runs]
        for mode in ("lattice", "pairwise"):
            times = [one["extra_info"][f"{mode}_ms"] for one in runs]
            axes.plot(lengths, times, style, marker="o", markersize=3, color=COLOURS[mode], label=f"{mode}, {side}")
    label(axes, "one thread, 32 clients, 3 drop out", "milliseconds")


def growth(axes: Axes, found: Runs) -> None:
    """Seconds from the first byte to the sum, by length; `found` are `sangam bench`'s figures, shortest first."""
    lengths = [one["entries"] for one in found]
    for key, name, mode in (
        ("secure_stream_s", "lattice, first byte to sum", "lattice"),
        ("plain_stream_s", "plain float32 sum, the same", "plain"),
        ("end_of_round_s", "lattice, behind the last upload", "pairwise"),
    ):
        axes.plot(lengths, [one[key] for one in found], marker="o", markersize=3, color=COLOURS[mode], label=name)
    label(axes, f"loopback gRPC, {found[0]['clients']} clients, {found[0]['dropouts']} vanish", "seconds")


def label(axes: Axes, title: str, unit: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel="values of one update", ylabel=unit)
    axes.set_title(title, fontsize=10)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
