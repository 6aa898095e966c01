"""Stock XGBoost on pooled records and on given cut points, and what its model file says.

A QuantileDMatrix takes its cut points from another one (`ref`). One of records that are the cut points themselves has
exactly these: below the first of them there is a row, since XGBoost makes no cut of the smallest value.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from clients.boosting import State
from clients.boosting.cuts import Cuts

SHARED = ("eta", "reg_lambda", "reg_alpha", "gamma", "min_child_weight", "max_depth", "max_bin")


def cut_by(cuts: Cuts, most: int) -> xgboost.QuantileDMatrix:
    """A matrix of which the cut points are these; XGBoost's own list of them is compared."""
    rows = np.full((1 + max(map(len, cuts.values)), len(cuts.values)), np.nan, np.float32)
    for feature, values in enumerate(cuts.values):
        column = [values[0] - abs(values[0]) - 1.0, *values] if values else [0.0]
        rows[: len(column), feature] = column
    matrix = xgboost.QuantileDMatrix(rows, np.zeros(len(rows)), max_bin=most)
    starts, points = matrix.get_quantile_cut()
    for feature, values in enumerate(cuts.values):
        # the first is the lower end, the last is above everything
        assert points[starts[feature] : starts[feature + 1]][1:-1].tolist() == list(values)
    return matrix


def pooled(state: State, values: Any, labels: Any) -> tuple[xgboost.Booster, xgboost.QuantileDMatrix]:
    """`hist` training on all records, on the study's cut points and with its parameters."""
    spec = state.settings
    reference = cut_by(state.cuts, spec.max_bin)
    matrix = xgboost.QuantileDMatrix(values, labels, max_bin=spec.max_bin, ref=reference)
    assert np.array_equal(matrix.get_quantile_cut()[1], reference.get_quantile_cut()[1])
    parameters = {name: getattr(spec, name) for name in SHARED}
    parameters |= {"objective": str(spec.objective), "tree_method": "hist", "nthread": 1}
    if spec.base_score is not None:
        parameters["base_score"] = spec.base_score
    return xgboost.train(parameters, matrix, spec.trees), matrix


def learner(booster: xgboost.Booster, path: Path) -> Any:
    """The model as XGBoost writes it."""
    booster.save_model(path)
    return json.loads(path.read_text())["learner"]
