"""Logistic regression of scikit-learn over five hospitals, beside plain averaging and pooled training.

python clients/examples/sklearn_logistic.py
"""

import asyncio

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss, roc_auc_score

from aggregator.demo.data import deal
from aggregator.local.trial import plain, try_out
from clients.adapters.sklearn import Linear
from clients.training import Trained

HOSPITALS, ROUNDS = 5, 10

study = deal(HOSPITALS, seed=1)  # real records, scaled by public constants, split unevenly; a quarter is held out
LARGEST = max(map(len, study.shards))


def new():
    """The first model, the same everywhere: all zeros."""
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01, random_state=0)
    model.partial_fit(np.zeros((2, 30)), [0.0, 1.0], classes=[0.0, 1.0])
    model.coef_, model.intercept_ = np.zeros_like(model.coef_), np.zeros_like(model.intercept_)
    return model


def at(hospital):
    """A hospital's own training, as it would be without a federation; and how good the model was that came in."""
    records = study.shards[hospital]

    def train(model):
        loss = log_loss(records.labels, model.predict_proba(records.features), labels=[0.0, 1.0])
        return Trained(model.partial_fit(records.features, records.labels), len(records), {"loss": loss})

    return train


trains = [at(hospital) for hospital in range(HOSPITALS)]
trial = try_out(Linear(), new, trains, rounds=ROUNDS, clip=2.0, metrics={"loss": 10.0}, weight_max=LARGEST)
models, twin = asyncio.run(trial), plain(Linear(), new, trains, rounds=ROUNDS)
pooled = new().fit(study.pooled.features, study.pooled.labels)
for name, model in {"Sangam": models[0], "plain averaging": twin, "pooled": pooled}.items():
    scores = model.decision_function(study.held_out.features)
    print(f"{name}: AUC {roc_auc_score(study.held_out.labels, scores):.4f}")
