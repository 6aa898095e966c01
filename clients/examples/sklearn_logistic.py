"""Logistic regression of scikit-learn over five hospitals, beside plain federated averaging and pooled training.

python clients/examples/sklearn_logistic.py
"""

import asyncio
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from aggregator.arrays import write_arrays
from aggregator.local.federation import federation
from clients.adapters.sklearn import Linear
from clients.training import Experiment, Trained

HOSPITALS, ROUNDS = 5, 10

x, y = load_breast_cancer(return_X_y=True)
x, x_test, y, y_test = train_test_split(StandardScaler().fit_transform(x), y, test_size=0.3, random_state=0)
shards = [(x[site::HOSPITALS], y[site::HOSPITALS]) for site in range(HOSPITALS)]


def new():
    """The first model, the same everywhere: all zeros."""
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01, random_state=0)
    model.partial_fit(x[:2], y[:2], classes=[0, 1])
    model.coef_, model.intercept_ = np.zeros_like(model.coef_), np.zeros_like(model.intercept_)
    return model


def train_on(features, labels):
    """The training of a site, as it would be without a federation; and how good the model was that came in."""

    def train(model):
        loss = log_loss(labels, model.predict_proba(features))
        return Trained(model.partial_fit(features, labels), len(labels), {"loss": loss})

    return train


def plain():
    """Federated averaging in the open."""
    adapter, model = Linear(), new()
    for _ in range(ROUNDS):
        sites = [train_on(*shard)(adapter.unflatten(new(), adapter.flatten(model))) for shard in shards]
        weights = [one.records for one in sites]
        arrays = [adapter.flatten(one.model) for one in sites]
        mean = {name: np.average([one[name] for one in arrays], 0, weights) for name in arrays[0]}
        model = adapter.unflatten(model, mean)
    return model


async def main():
    with tempfile.TemporaryDirectory() as directory:
        first = Path(directory) / "first.npz"
        write_arrays(first, Linear().flatten(new()))
        experiment = Experiment(
            task="breast-cancer",
            model=first,
            rounds=ROUNDS,
            clip=2,
            weight_max=100,
            minimum_cohort=3,
            metrics={"loss": 10},
        )
        async with federation(HOSPITALS) as here:
            models = await here.train(experiment, Linear(), [(new(), train_on(*shard)) for shard in shards])
    for name, model in (("Sangam", models[0]), ("plain", plain()), ("pooled", new().fit(x, y))):
        print(f"{name}: AUC {roc_auc_score(y_test, model.decision_function(x_test)):.4f}")


asyncio.run(main())
