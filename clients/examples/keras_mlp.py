"""A Keras network over five hospitals, whatever the backend, beside plain averaging and pooled training.

KERAS_BACKEND=jax python clients/examples/keras_mlp.py
"""

import asyncio
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

from aggregator.demo.data import deal
from aggregator.local.trial import plain, try_out
from clients.adapters.keras import Keras
from clients.training import Trained

HOSPITALS, ROUNDS, EPOCHS = 5, 8, 2

study = deal(HOSPITALS, seed=1)  # real records, scaled by public constants, split unevenly; a quarter is held out
LARGEST = max(map(len, study.shards))


def new():
    """The first network, the same everywhere."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy")
    return model


def fit(model, features, labels, epochs):
    """Keras' own loop; its order is fixed, so that two runs are alike."""
    model.fit(features, labels, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return model


def at(hospital):
    """A hospital's own training."""
    records = study.shards[hospital]
    return lambda model: Trained(fit(model, records.features, records.labels, EPOCHS), len(records))


trains = [at(hospital) for hospital in range(HOSPITALS)]
models = asyncio.run(try_out(Keras(), new, trains, rounds=ROUNDS, clip=2.0, weight_max=LARGEST))
twin = plain(Keras(), new, trains, rounds=ROUNDS)
pooled = fit(new(), study.pooled.features, study.pooled.labels, ROUNDS * EPOCHS)
for name, model in {"Sangam": models[0], "plain averaging": twin, "pooled": pooled}.items():
    scores = np.ravel(model.predict(study.held_out.features, verbose=0))
    print(f"{name}: AUC {roc_auc_score(study.held_out.labels, scores):.4f}")
