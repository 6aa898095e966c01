"""Logistic regression by gradient descent in plain NumPy, and the area under the ROC curve.

Federated averaging (McMahan et al. 2017): each hospital takes LOCAL_STEPS full-batch steps from the common model, the
mean of their models, weighted by records, is the next one. The pooled comparison takes as many steps on all records.
"""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from aggregator.demo.data import Records
from aggregator.local.draws import Floats
from aggregator.wire.messages import Tensor

LOCAL_STEPS = 20
RATE = 0.3
PENALTY = 3e-3
"""L2, on the weights, not on the bias."""

CLIP = 4.0
"""Far above any weight seen in training (1.2), so that nothing is clipped."""

Model: TypeAlias = Mapping[str, Floats]


def tensors(features: int) -> tuple[Tensor, ...]:
    """A model's layout."""
    return Tensor("weights", (features,)), Tensor("bias", ())


def initial(features: int) -> Model:
    """Where all start: zero."""
    return {"weights": np.zeros(features), "bias": np.zeros(())}


def descend(model: Model, records: Records, steps: int) -> Model:
    """That many gradient steps of the penalised mean log loss on these records; a new model."""
    weights, bias = model["weights"], model["bias"]
    for _ in range(steps):
        error = _probability(records.features @ weights + bias) - records.labels
        weights = weights - RATE * (records.features.T @ error / len(records) + PENALTY * weights)
        bias = bias - RATE * error.mean()
    return {"weights": weights, "bias": np.asarray(bias)}


def auc(model: Model, records: Records) -> float:
    """How often a malignant case scores above a benign one, ties half: the area under the ROC curve."""
    scores = records.features @ model["weights"] + model["bias"]
    ill, well = scores[records.labels == 1.0], scores[records.labels == 0.0]
    above = (ill[:, None] > well).mean()
    return float(above + (ill[:, None] == well).mean() / 2)


def _probability(logits: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))  # the logistic function without overflow
