"""One site's training script, as NVFlare runs it; it knows nothing of Sangam.

Logistic regression on this site's share of scikit-learn's breast cancer records, 20 full-batch gradient steps a round.
"""

import nvflare.client as flare
import numpy as np
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.np.constants import NPConstants
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

STEPS, RATE, SHARES = 20, 0.3, (0.5, 0.8, 1.0)
"""Shares: site-1 has half of the records, site-2 three tenths, site-3 the rest."""


def records(site: str):
    """A site's own measurements, scaled, a column of ones beside them, and diagnoses."""
    source = load_breast_cancer()
    features = np.column_stack([scale(source.data), np.ones(len(source.data))])
    order = np.random.default_rng(7).permutation(len(features))
    bounds = [0, *(round(share * len(features)) for share in SHARES)]
    number = int(site.rpartition("-")[2])
    mine = order[bounds[number - 1] : bounds[number]]
    return features[mine], source.target[mine]


def probability(model, features):
    """Of a benign diagnosis."""
    return 0.5 * (1 + np.tanh(0.5 * (features @ model)))


def main() -> None:
    """Train whenever NVFlare sends a model."""
    flare.init()
    features, labels = records(flare.get_site_name())
    while flare.is_running():
        received = flare.receive()
        model = received.params[NPConstants.NUMPY_KEY]
        accuracy = float(np.mean((probability(model, features) > 0.5) == labels))
        for _ in range(STEPS):
            model = model - RATE * features.T @ (probability(model, features) - labels) / len(labels)
        params = {NPConstants.NUMPY_KEY: model.astype(np.float32)}
        meta = {"NUM_STEPS_CURRENT_ROUND": len(labels)}
        flare.send(FLModel(params_type="FULL", params=params, metrics={"accuracy": accuracy}, meta=meta))


if __name__ == "__main__":
    main()
