"""A Keras network over five hospitals, whatever the backend, beside plain averaging and pooled training.

KERAS_BACKEND=jax python clients/examples/keras_mlp.py
"""

import asyncio
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from aggregator.local.trial import plain, try_out
from clients.adapters.keras import Keras
from clients.training import Trained

HOSPITALS, ROUNDS, EPOCHS = 5, 8, 2

x, y = load_breast_cancer(return_X_y=True)
x, x_test, y, y_test = train_test_split(StandardScaler().fit_transform(x), y, test_size=0.3, random_state=0)


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
    mine, labels = x[hospital::HOSPITALS], y[hospital::HOSPITALS]
    return lambda model: Trained(fit(model, mine, labels, EPOCHS), len(labels))


trains = [at(hospital) for hospital in range(HOSPITALS)]
models = asyncio.run(try_out(Keras(), new, trains, rounds=ROUNDS, clip=2.0, weight_max=100))
twin = plain(Keras(), new, trains, rounds=ROUNDS)
pooled = fit(new(), x, y, ROUNDS * EPOCHS)
for name, model in {"Sangam": models[0], "plain averaging": twin, "pooled": pooled}.items():
    print(f"{name}: AUC {roc_auc_score(y_test, np.ravel(model.predict(x_test, verbose=0))):.4f}")
