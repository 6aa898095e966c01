"""Who dies within five years of a blood sample, by a perceptron, at nine sites that are alike in nothing.

Scaling is by public constants, as in `aggregator.demo.data`.
"""

from collections.abc import Callable

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.neural_network import MLPClassifier

from aggregator.demo.pipelines.contract import Averaging, Pipeline
from aggregator.demo.pipelines.flchain import people
from aggregator.local.draws import Floats
from clients.adapters.sklearn import Perceptron
from clients.training import Trained

ROUNDS, EPOCHS, BATCH, HIDDEN = 15, 2, 32, 12
CREATININE = 1.0  # mg/dl, where it was not measured
CHAIN_LEAST = 0.05  # mg/dl, below which a logarithm says little


def pipeline() -> Pipeline[MLPClassifier]:
    """See the module."""
    known = people()
    features, labels, rest, held_out = _scaled(known.values), known.labels, known.rest, known.held_out

    def trains() -> list[Callable[[MLPClassifier], Trained[MLPClassifier]]]:
        return [_training(features[group], labels[group]) for group in known.groups]

    training = Averaging(
        adapter=Perceptron(),
        new=_new,
        trains=trains,
        rounds=ROUNDS,
        clip=2.0,
        weight_max=known.largest,
        metrics={"log loss": 10.0},
    )
    return Pipeline(
        about="Death within five years by age, sex, light chains and creatinine; a perceptron of scikit-learn.",
        sites=known.sites,
        rounds=ROUNDS,
        federated=training.federated,
        twin=training.plain,
        pooled=lambda: _fitted(_new(), features[rest], labels[rest], ROUNDS * EPOCHS),
        score=lambda model: float(roc_auc_score(labels[held_out], model.predict_proba(features[held_out])[:, 1])),
        scored="AUC on people that no site trained on",
    )


def _scaled(values: Floats) -> Floats:
    age, female, kappa, lambda_, creatinine = values.T
    missing = np.isnan(creatinine)
    chains = (np.log(np.maximum(one, CHAIN_LEAST)) for one in (kappa, lambda_))
    return np.column_stack(
        [(age - 65) / 10, female - 0.5, *chains, np.where(missing, 0.0, creatinine - CREATININE), missing]
    )


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
