"""A round of a study, both halves: what a site adds, and what everybody makes of the sum.

First come rounds of counts, which end in cut points and the base score; then every round decides about one level of one
tree. Whatever a level is decided from is in its own round's sum: sites may come and go between rounds, and a site that
misses one is missing from that level only. What everybody computes is sums of whole steps, products and divisions: the
same bits on every machine.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aggregator.errors import ParameterError, RoundAborted
from clients.boosting import objective
from clients.boosting.cuts import Cuts
from clients.boosting.settings import GRADIENTS, HESSIANS, Objective, Settings, exact_sum, on_grid
from clients.boosting.splits import Split, Sums, best_split
from clients.boosting.state import State
from clients.boosting.trees import Tree

Floats: TypeAlias = npt.NDArray[np.float64]
Floats32: TypeAlias = npt.NDArray[np.float32]
Update: TypeAlias = dict[str, Floats]


class Records:
    """One site's own records, and what need not be found again every round: their bins, and their margins so far.

    Args:
        values: shape (n, features), in the settings' order; NaN is a missing value.
        labels: shape (n,).

    Raises:
        ParameterError: shapes don't fit, or something is infinite, or a label is not a number.
    """

    def __init__(self, values: npt.ArrayLike, labels: npt.ArrayLike) -> None:
        self.values, self.labels = np.asarray(values, np.float32), np.asarray(labels, np.float32)
        if self.values.ndim != 2 or self.labels.shape != self.values.shape[:1]:
            raise ParameterError(f"records of shape {self.values.shape} with labels of shape {self.labels.shape}")
        if np.isinf(self.values).any() or not np.isfinite(self.labels).all():
            raise ParameterError("records may miss values, but none is infinite, and every label is a number")
        self._start: tuple[Cuts | None, float] = None, 0.0
        self._bins: npt.NDArray[np.uint16] | None = None
        self._trees: tuple[Tree, ...] = ()
        self._margins: Floats32 | None = None

    def binned(self, state: State) -> tuple[npt.NDArray[np.uint16], Floats32]:
        """Bins, shape (n, features), missing values in the last; and margins by the finished trees, shape (n,).

        Raises:
            ParameterError: there are no cut points yet.
        """
        if state.cuts is None:
            raise ParameterError("a tree grows on cut points")
        start, trees = (state.cuts, state.base_score), state.finished_trees
        if self._bins is None or self._start != start:
            self._start, self._margins = start, None
            self._bins = state.cuts.bins(self.values, missing=state.settings.max_bin).astype(np.uint16)
        if self._margins is None or trees[: len(self._trees)] != self._trees:
            self._trees, self._margins = (), state.margins(self.values, trees=0)
        for tree in trees[len(self._trees) :]:
            self._margins += tree.values[tree.leaves(self.values)]
        self._trees = trees
        return self._bins, self._margins

    def check(self, settings: Settings) -> None:
        """Whether they fit what was agreed on.

        Raises:
            ParameterError: they don't.
        """
        count, features = self.values.shape
        if features != len(settings.features):
            raise ParameterError(f"records of {features} features, the study has {len(settings.features)}")
        if not 1 <= count <= settings.records_max:
            raise ParameterError(f"{count} records, the study allows 1 to {settings.records_max}")
        logistic = settings.objective is Objective.LOGISTIC
        if not (np.isin(self.labels, (0, 1)) if logistic else np.abs(self.labels) <= settings.label_max).all():
            raise ParameterError("labels are 0 or 1" if logistic else f"a label is beyond {settings.label_max}")


def contribution(state: State, records: Records) -> Update:
    """Run by a site: its sums for the next round, arrays of `settings.shape`, all in whole steps.

    Raises:
        ParameterError: the records don't fit, or a gradient is larger than the study allows for.
    """
    records.check(state.settings)
    return _counts(state, records) if state.cuts is None else _histograms(state, records)


def advanced(state: State, mean: Mapping[str, Floats], sites: int, round_number: int) -> State:
    """Run by all: the state after a round.

    Args:
        state: before it.
        mean: of the sites' contributions, each with weight 1.
        sites: how many were in it.
        round_number: the server's.
    """
    sums = {name: exact_sum(mean[name], sites, step) for name, step in state.settings.steps.items()}
    _check_sums(sums, sites * state.settings.records_max)
    after = _counted(state, sums) if state.cuts is None else _levelled(state, sums)
    return replace(after, round=round_number, closed=state.closed + 1)


def _check_sums(sums: Update, records_max: int) -> None:
    """Refuse what no records can have made, whoever says so; a hessian, and a count, is from 0 to 1 a record.

    Raises:
        RoundAborted: a count is negative or too large, or nobody has been counted.
    """
    counts = sums[HESSIANS]
    if not (counts.min() >= 0 and counts.sum(axis=(0, 2)).max() <= records_max and counts.any()):
        raise RoundAborted("the round's sums are none of records: a site, or the server, lies")


def _counts(state: State, records: Records) -> Update:
    """Counts stand in the place of hessians, and the labels' sum in that of a gradient."""
    settings = state.settings
    update = _zeros(settings)
    if state.sketch is None:
        raise ParameterError("a state without cut points has cells to count in")
    cells = state.sketch.count(records.values)
    update[HESSIANS][:, :, :-1] = cells.reshape(-1, settings.slots, settings.max_bin).swapaxes(0, 1)
    update[HESSIANS][0, :, -1] = np.isnan(records.values).sum(axis=0)
    update[GRADIENTS][0, 0, 0] = on_grid(records.labels, settings.steps[GRADIENTS]).sum()
    return update


def _counted(state: State, sums: Update) -> State:
    settings, sketch = state.settings, state.sketch
    if sketch is None:
        raise ParameterError("a state without cut points has cells to count in")
    counts = sums[HESSIANS][:, :, :-1].swapaxes(0, 1).reshape(-1, settings.cells).astype(np.int64)
    if state.counted + 1 < settings.sketch_rounds:
        return replace(state, counted=state.counted + 1, sketch=sketch.refined(counts))
    mean = sums[GRADIENTS][0, 0, 0] / sums[HESSIANS][:, 0].sum()
    score = mean if settings.base_score is None else settings.base_score
    return replace(
        state,
        counted=state.counted + 1,
        sketch=None,
        cuts=sketch.cuts(counts, settings.max_bin),
        base_score=float(np.float32(score)),
        trees=(Tree.seed(),),
    )


def _histograms(state: State, records: Records) -> Update:
    settings, tree, update = state.settings, state.trees[-1], _zeros(state.settings)
    found, margins = records.binned(state)
    first, second = objective.gradients(settings.objective, margins, records.labels)
    if np.abs(first).max() > settings.gradient_max:
        raise ParameterError(f"a gradient is beyond the {settings.gradient_max} that the study allows: raise label_max")
    slots, features, bins = settings.shape
    slot = np.full(len(tree.nodes), -1)
    slot[list(tree.open)] = np.arange(len(tree.open))
    slot = slot[tree.leaves(records.values)]
    here = slot >= 0
    at = (slot[here, None] * features + np.arange(features)) * bins + found[here]
    for name, values in ((GRADIENTS, first), (HESSIANS, second)):
        each = np.repeat(on_grid(values[here], settings.steps[name]), features)
        update[name][:] = np.bincount(at.ravel(), each, slots * features * bins).reshape(settings.shape)
    return update


def _levelled(state: State, sums: Update) -> State:
    """Every open leaf is split by its own histogram; what one leaf is worth stays what its parent's split said."""
    if state.cuts is None:
        raise ParameterError("a tree grows on cut points")
    settings, tree = state.settings, state.trees[-1]
    g, h = sums[GRADIENTS], sums[HESSIANS]
    if tree.open == (0,):
        tree = tree.rooted(Sums(float(g[0, 0].sum()), float(h[0, 0].sum())), settings)
    splits: dict[int, Split | None] = {
        node: best_split(g[slot], h[slot], settings) for slot, node in enumerate(tree.open)
    }
    trees = (*state.trees[:-1], tree.grown(splits, state.cuts, settings))
    after = replace(state, trees=trees)
    grows_on = after.trees[-1].open or after.done
    return after if grows_on else replace(after, trees=(*trees, Tree.seed()))


def _zeros(settings: Settings) -> Update:
    return {name: np.zeros(settings.shape) for name in settings.steps}
