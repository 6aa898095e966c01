"""Who dies within five years of a blood sample, by a perceptron: the assay of free light chains, Olmsted County.

The people of one year's samples are one site, so sites differ in size by a hundredfold, and in who they see. Who left
the study alive within the five years is left out. Scaling is by public constants, as in `aggregator.demo.data`.

Source: scikit-survival's copy of R's flchain, Dispenzieri et al. 2012.
"""

from collections.abc import Callable

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.neural_network import MLPClassifier
from sksurv.datasets import load_flchain

from aggregator.demo.pipelines.contract import Pipeline
from aggregator.local.draws import Floats, shuffled
from clients.adapters.sklearn import Perceptron
from clients.training import Trained

FIVE_YEARS = 5 * 365.25
HELD_OUT = 0.3
ROUNDS, EPOCHS, BATCH, HIDDEN = 15, 2, 32, 12
CREATININE = 1.0  # mg/dl, where it was not measured


def pipeline() -> Pipeline[MLPClassifier]:
    """See the module."""
    features, labels, years = _people()
    order = shuffled(1, "held out", len(labels))
    held_out, rest = np.split(order, [round(HELD_OUT * len(labels))])
    groups = [rest[years[rest] == year] for year in np.unique(years)]

    def trains() -> list[Callable[[MLPClassifier], Trained[MLPClassifier]]]:
        return [_training(features[group], labels[group]) for group in groups]

    return Pipeline(
        about="Death within five years by age, sex, light chains and creatinine; a perceptron of scikit-learn.",
        sites=tuple(f"samples of {year}" for year in np.unique(years)),
        adapter=Perceptron(),
        new=_new,
        trains=trains,
        pooled=lambda: _fitted(_new(), features[rest], labels[rest], ROUNDS * EPOCHS),
        score=lambda model: float(roc_auc_score(labels[held_out], model.predict_proba(features[held_out])[:, 1])),
        scored="AUC on people that no site trained on",
        within=0.005,
        rounds=ROUNDS,
        clip=2.0,
        weight_max=max(map(len, groups)),
        metrics={"log loss": 10.0},
    )


def _people() -> tuple[Floats, Floats, Floats]:
    table, ends = load_flchain()
    died, days = np.array([end[0] for end in ends]), np.array([end[1] for end in ends])
    known = (died & (days <= FIVE_YEARS)) | (days > FIVE_YEARS)
    columns = [
        (table["age"] - 65) / 10,
        (table["sex"] == "F") - 0.5,
        np.log(np.maximum(table["kappa"], 0.05)),
        np.log(np.maximum(table["lambda"], 0.05)),
        table["creatinine"].fillna(CREATININE) - CREATININE,
        table["creatinine"].isna(),
    ]
    features = np.column_stack([np.asarray(column, np.float64) for column in columns])
    labels = (died & (days <= FIVE_YEARS)).astype(np.float64)
    return features[known], labels[known], np.asarray(table["sample.yr"].astype(int))[known]


def _new() -> MLPClassifier:
    model = MLPClassifier((HIDDEN,), solver="sgd", learning_rate_init=0.02, batch_size=2, random_state=0)
    return model.partial_fit(np.zeros((2, 6)), [0.0, 1.0], classes=[0.0, 1.0])


def _fitted(model: MLPClassifier, features: Floats, labels: Floats, epochs: int) -> MLPClassifier:
    model.batch_size = min(BATCH, len(labels))
    for _ in range(epochs):
        model.partial_fit(features, labels)
    return model


def _training(features: Floats, labels: Floats) -> Callable[[MLPClassifier], Trained[MLPClassifier]]:
    def train(model: MLPClassifier) -> Trained[MLPClassifier]:
        loss = log_loss(labels, model.predict_proba(features), labels=[0.0, 1.0])
        return Trained(_fitted(model, features, labels, EPOCHS), len(labels), {"log loss": loss})

    return train
