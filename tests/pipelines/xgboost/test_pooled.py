"""Federated trees beside stock XGBoost's on the pooled records and the same cut points, and beside its predictions."""

import json
from typing import Any

import numpy as np
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer, load_diabetes, make_classification

from clients.boosting import Records, Settings, State, to_xgboost_json
from clients.boosting.cuts import LARGEST
from clients.boosting.model_json import VERSION
from tests.boosting.study import dealt, run
from tests.pipelines.xgboost.stock import learner, pooled

STRUCTURE = ("left_children", "right_children", "parents", "split_indices", "default_left", "split_type")
NUMBERS = ("split_conditions", "base_weights", "sum_hessian", "loss_changes")
ULPS = 8 * np.finfo(np.float32).eps

PARAMETERS = {
    "defaults": {"max_depth": 6},
    "shallow": {"max_depth": 2, "eta": 0.1, "max_bin": 256},
    "regularised": {"max_depth": 5, "gamma": 0.2, "reg_alpha": 0.5, "reg_lambda": 3.0, "min_child_weight": 4.0},
    "loose": {"max_depth": 4, "min_child_weight": 0.0, "reg_lambda": 0.01, "max_bin": 16},
    "scored": {"max_depth": 3, "base_score": 0.3},
}


def breast_cancer() -> tuple[Any, Any, dict[str, Any]]:
    return *load_breast_cancer(return_X_y=True), {}


def diabetes() -> tuple[Any, Any, dict[str, Any]]:
    return *load_diabetes(return_X_y=True), {"objective": "reg:squarederror", "label_max": 400.0}


def synthetic() -> tuple[Any, Any, dict[str, Any]]:
    """Two columns are the same, one is constant, one is empty, one is rounded: ties, and nothing to part."""
    values, labels = make_classification(1_500, 10, n_informative=6, random_state=0)
    values[:, 1] = values[:, 0]
    values[:, 2], values[:, 3] = 4.0, np.nan
    values[:, 4] = np.round(values[:, 4])
    return values, labels, {}


def holes(values: Any, share: float) -> Any:
    values = values.astype(np.float32)
    values[np.random.default_rng(7).random(values.shape) < share] = np.nan
    return values


def federated(values: Any, labels: Any, sites: int, **changes: Any) -> State:
    features = tuple(f"feature {number}" for number in range(values.shape[1]))
    fields: dict[str, Any] = {"sites_max": max(sites, 3), "records_max": 2_000, "trees": 15, **changes}
    shards = dealt(values, labels, sites)
    return run(State.start(Settings(features, **fields)), lambda _: shards)


def check_trees(ours: Any, theirs: Any) -> None:
    mine, stock = (one["gradient_booster"]["model"]["trees"] for one in (ours, theirs))
    assert len(mine) == len(stock)
    for number, (one, other) in enumerate(zip(mine, stock, strict=True)):
        assert {name: one[name] for name in STRUCTURE} == {name: other[name] for name in STRUCTURE}, number
        for name in NUMBERS:
            got, expected = np.array(one[name], np.float32), np.array(other[name], np.float32)
            if name == "split_conditions":  # where all values go one way XGBoost has the ends of its own sketch
                compared = np.abs(got) < LARGEST
            elif name == "base_weights":  # XGBoost's sum of a root's gradients is 0 but for its roundings
                compared = np.arange(len(got)) > 0
            else:
                compared = np.ones(len(got), np.bool_)
            scale = np.abs(expected[compared]).max(initial=1e-3)
            assert np.abs(got - expected)[compared].max(initial=0.0) <= ULPS * scale, (number, name)


@pytest.mark.parametrize("parameters", list(PARAMETERS))
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("load", [breast_cancer, diabetes, synthetic])
def test_trees_equal_pooled_training(load, missing, parameters, tmp_path):
    raw, labels, kind = load()
    values, sites = holes(raw, missing), 3 + len(parameters) % 5
    state = federated(values, labels, sites, **kind, **PARAMETERS[parameters])
    booster, matrix = pooled(state, values, labels)
    ours, theirs = json.loads(to_xgboost_json(state))["learner"], learner(booster, tmp_path / "stock.json")
    check_trees(ours, theirs)
    scores = [float(one["learner_model_param"]["base_score"].strip("[]")) for one in (ours, theirs)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)
    assert np.abs(state.predict(values) - booster.predict(matrix)).max() <= 1e-6 * np.abs(labels).max()


@pytest.mark.parametrize("load", [breast_cancer, diabetes])
def test_stock_xgboost_predicts_with_our_file(load, tmp_path):
    raw, labels, kind = load()
    values = holes(raw, 0.1)
    state = federated(values, labels, 4, max_depth=4, **kind)
    path = tmp_path / "model.json"
    path.write_text(to_xgboost_json(state))
    booster = xgboost.Booster(model_file=path)
    assert booster.feature_names == list(state.settings.features)
    assert booster.num_boosted_rounds() == 15
    matrix = xgboost.DMatrix(holes(raw, 0.3), feature_names=booster.feature_names)
    for first in (1, 7, 15):
        got, expected = state.predict(holes(raw, 0.3), trees=first), booster.predict(matrix, iteration_range=(0, first))
        assert np.abs(got - expected).max() <= 1e-6 * np.abs(labels).max()
    again = learner(booster, tmp_path / "again.json")
    check_trees(json.loads(path.read_text())["learner"], again)
    assert json.loads((tmp_path / "again.json").read_text())["version"] == list(VERSION)
    with pytest.raises(ValueError, match="feature names"):
        booster.predict(xgboost.DMatrix(values))


def test_stock_xgboost_goes_on_with_our_file(tmp_path):
    raw, labels, _ = breast_cancer()
    state = federated(raw.astype(np.float32), labels, 3, trees=3)
    path = tmp_path / "model.json"
    path.write_text(to_xgboost_json(state))
    names = list(state.settings.features)
    more = xgboost.train(
        {"objective": "binary:logistic"}, xgboost.DMatrix(raw, labels, feature_names=names), 2, xgb_model=path
    )
    assert more.num_boosted_rounds() == 5
    assert sorted(more.get_score()) == sorted(set(more.get_score()) & set(names))


def test_a_resumed_study_is_the_same_file(tmp_path):
    raw, labels, _ = breast_cancer()
    values = holes(raw, 0.1)
    whole = federated(values, labels, 5, trees=5)
    shards = dealt(values, labels, 5)
    half = run(State.start(whole.settings), lambda _: shards, until=13)
    assert 0 < len(half.finished_trees) < 5
    fresh = [Records(one.values, one.labels) for one in shards]
    assert to_xgboost_json(run(State.from_json(half.to_json()), lambda _: fresh)) == to_xgboost_json(whole)


def test_sixty_thousand_records(tmp_path):
    raw, labels = make_classification(60_000, 20, n_informative=10, random_state=0)
    values = holes(raw, 0.1)
    state = federated(values, labels, 3, records_max=60_000, max_depth=6)
    booster, matrix = pooled(state, values, labels)
    check_trees(json.loads(to_xgboost_json(state))["learner"], learner(booster, tmp_path / "stock.json"))
    assert sum(len(tree.nodes) for tree in state.trees) > 1_500
    assert np.abs(state.predict(values) - booster.predict(matrix)).max() <= 1e-6
