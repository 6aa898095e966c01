import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from aggregator.demo import data, training
from aggregator.demo.data import Records
from aggregator.demo.training import LOCAL_STEPS, PENALTY, Model


def federated(study: data.Study, rounds: int) -> Model:
    model = training.initial(30)
    weights = [len(shard) for shard in study.shards]
    for _ in range(rounds):
        local = [training.descend(model, shard, LOCAL_STEPS) for shard in study.shards]
        model = {name: np.average([one[name] for one in local], axis=0, weights=weights) for name in model}
    return model


@pytest.mark.parametrize("seed", range(4))
def test_averaging_comes_within_a_hundredth_of_pooling(seed: int) -> None:
    study = data.deal(10, seed)
    pooled = training.descend(training.initial(30), study.pooled, 20 * LOCAL_STEPS)
    apart = training.auc(federated(study, 20), study.held_out) - training.auc(pooled, study.held_out)
    assert abs(apart) < 0.01


def test_descent_finds_what_scikit_learn_finds() -> None:
    records = data.deal(10, 1).pooled
    ours = training.descend(training.initial(30), records, 60_000)
    theirs = LogisticRegression(C=1 / (len(records) * PENALTY), tol=1e-8, solver="newton-cholesky")
    theirs.fit(records.features, records.labels)
    np.testing.assert_allclose(ours["weights"], theirs.coef_[0], atol=2e-3)
    np.testing.assert_allclose(ours["bias"], theirs.intercept_[0], atol=2e-3)


def test_nothing_comes_near_the_clip() -> None:
    model = federated(data.deal(10, 1), 40)
    assert max(abs(model["weights"]).max(), abs(model["bias"])) < training.CLIP / 2


def test_auc_is_scikit_learns_ties_included() -> None:
    rng = np.random.default_rng(0)
    records = Records(rng.integers(0, 4, (200, 1)).astype(float), rng.integers(0, 2, 200).astype(float))
    model = {"weights": np.ones(1), "bias": np.zeros(())}
    assert training.auc(model, records) == pytest.approx(roc_auc_score(records.labels, records.features[:, 0]))
