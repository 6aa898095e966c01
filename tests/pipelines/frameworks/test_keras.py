"""Keras through the adapter, with the backend that the environment names."""

import keras
import numpy as np
import pytest

from clients.adapters.keras import Keras

# Keras 3.15 makes NumPy arrays of PyTorch's tensors in NumPy's old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
X = np.linspace(-1, 1, 60, dtype=np.float32).reshape(12, 5)


def network(seed):
    keras.utils.set_random_seed(seed)
    layers = keras.layers.Dense(4, "relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)
    model = keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    model.fit(X + seed, X[:, :2], verbose=0)
    return model


def test_a_network_predicts_the_same_after_a_journey():
    there, here = network(0), network(1)
    tensors = Keras().flatten(there)
    assert list(tensors) == [
        *("0.kernel", "1.bias", "2.gamma", "3.beta", "4.moving_mean", "5.moving_variance"),
        *(name for name in tensors if name.endswith(("kernel", "bias")) and name[0] in "678"),
    ]
    assert list(Keras().flatten(here)) == list(tensors), "whatever Keras calls its layers"
    assert not np.array_equal(there.predict(X, verbose=0), here.predict(X, verbose=0))
    assert Keras().unflatten(here, tensors) is here
    assert np.array_equal(there.predict(X, verbose=0), here.predict(X, verbose=0))


class Counting(keras.layers.Layer):
    """A layer with a weight that is a counter."""

    def build(self, shape):
        self.seen = self.add_weight(name="seen", dtype="int32", initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", initializer="ones")

    def call(self, x):
        return x * self.scale


def test_integers_stay_at_each_site():
    model = keras.Sequential([keras.Input((3,)), Counting()])
    assert [weight.name for weight in model.weights] == ["scale", "seen"]
    assert list(Keras().flatten(model)) == ["0.scale"]
    model.weights[1].assign(7)
    Keras().unflatten(model, {"0.scale": np.float32(3.0)})
    assert [float(keras.ops.convert_to_numpy(weight)) for weight in model.weights] == [3.0, 7.0]


def test_flattened_arrays_are_copies():
    model = network(0)
    before = model.predict(X, verbose=0)
    for array in Keras().flatten(model).values():
        array[...] = 7
    assert np.array_equal(model.predict(X, verbose=0), before)


def test_other_floats_come_back_as_they_were():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="float16")])
    before = [keras.ops.convert_to_numpy(one) for one in model.weights]
    tensors = Keras().flatten(model)
    Keras().unflatten(model, {name: array * 0 for name, array in tensors.items()})
    Keras().unflatten(model, tensors)
    assert all(np.array_equal(keras.ops.convert_to_numpy(a), b) for a, b in zip(model.weights, before, strict=True))
    assert {array.dtype for array in tensors.values()} == {np.dtype(np.float32)}
