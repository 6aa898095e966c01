"""One site's training script, as NVFlare runs it; it knows nothing of Sangam.

Logistic regression on this site's share of scikit-learn's breast cancer records, 20 full-batch gradient steps a round.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import nvflare.client as flare
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.np.constants import NPConstants
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

Floats: TypeAlias = npt.NDArray[np.floating[Any]]

STEPS, RATE = 20, 0.3
BOUNDS = (0.0, 0.5, 0.8, 1.0)
"""site-1 has half of the records, site-2 three tenths, site-3 the rest."""


def records(site: str) -> tuple[Floats, Floats]:
    """A site's own measurements, scaled, a column of ones beside them, and diagnoses."""
    source = load_breast_cancer()
    features = np.column_stack([scale(source.data), np.ones(len(source.data))])
    order = np.random.default_rng(7).permutation(len(features))
    share = int(site.rpartition("-")[2])
    first, last = (round(bound * len(order)) for bound in BOUNDS[share - 1 : share + 1])
    mine = order[first:last]
    return features[mine], source.target[mine].astype(np.float64)


def probability(model: Floats, features: Floats) -> Floats:
    """Of a benign diagnosis."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * (features @ model))))


def descend(model: Floats, features: Floats, labels: Floats) -> Floats:
    """A round's training."""
    for _ in range(STEPS):
        model = model - RATE * features.T @ (probability(model, features) - labels) / len(labels)
    return model.astype(np.float32)


def accuracy(model: Floats, features: Floats, labels: Floats) -> float:
    """The share of diagnoses that the model gets right."""
    return float(np.mean((probability(model, features) > 0.5) == labels))


def main() -> None:
    """Train whenever NVFlare sends a model."""
    flare.init()
    features, labels = records(flare.get_site_name())
    while flare.is_running():
        received = flare.receive().params[NPConstants.NUMPY_KEY]
        trained = FLModel(
            ParamsType.FULL,
            {NPConstants.NUMPY_KEY: descend(received, features, labels)},
            metrics={"accuracy": accuracy(received, features, labels)},
            meta={"NUM_STEPS_CURRENT_ROUND": len(labels)},
        )
        flare.send(trained)


if __name__ == "__main__":
    main()
