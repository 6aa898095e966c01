"""Logistic regression of scikit-learn over five hospitals, beside plain averaging and pooled training.

python clients/examples/sklearn_logistic.py
"""

import asyncio

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from aggregator.local.trial import plain, try_out
from clients.adapters.sklearn import Linear
from clients.training import Trained

HOSPITALS, ROUNDS = 5, 10

x, y = load_breast_cancer(return_X_y=True)
x, x_test, y, y_test = train_test_split(StandardScaler().fit_transform(x), y, test_size=0.3, random_state=0)


def new():
    """The first model, the same everywhere: all zeros."""
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01, random_state=0)
    model.partial_fit(x[:2], y[:2], classes=[0, 1])
    model.coef_, model.intercept_ = np.zeros_like(model.coef_), np.zeros_like(model.intercept_)
    return model


def at(hospital):
    """A hospital's own training, as it would be without a federation; and how good the model was that came in."""
    mine, labels = x[hospital::HOSPITALS], y[hospital::HOSPITALS]

    def train(model):
        loss = log_loss(labels, model.predict_proba(mine))
        return Trained(model.partial_fit(mine, labels), len(labels), {"loss": loss})

    return train


trains = [at(hospital) for hospital in range(HOSPITALS)]
models = asyncio.run(try_out(Linear(), new, trains, rounds=ROUNDS, clip=2.0, metrics={"loss": 10.0}, weight_max=100))
found = {"Sangam": models[0], "plain averaging": plain(Linear(), new, trains, rounds=ROUNDS), "pooled": new().fit(x, y)}
for name, model in found.items():
    print(f"{name}: AUC {roc_auc_score(y_test, model.decision_function(x_test)):.4f}")
