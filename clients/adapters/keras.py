"""Keras 3: a model's weights, whatever its backend (JAX, PyTorch, TensorFlow)."""

from dataclasses import dataclass

import keras
import numpy as np

from clients.adapters.contract import Array, Combine, Tensors


@dataclass(frozen=True, slots=True)
class Keras:
    """Built models of Keras; variables of float dtype travel, under their paths.

    States of random generators, and other integers, stay at each site, as do the optimiser's variables. A path must be
    unique within the model: layers that share a name need names of their own.
    """

    combine: Combine = Combine.MEAN

    def flatten(self, model: keras.Model, /) -> dict[str, Array]:
        """Copies, as float32, doubles as float64."""
        return {variable.path: _array(variable) for variable in _travelling(model)}

    def unflatten(self, model: keras.Model, tensors: Tensors, /) -> keras.Model:
        """The same model."""
        for variable in _travelling(model):
            variable.assign(tensors[variable.path])
        return model


def _travelling(model: keras.Model) -> list[keras.Variable]:
    return [variable for variable in model.weights if keras.backend.is_float_dtype(variable.dtype)]


def _array(variable: keras.Variable) -> Array:
    wide = np.float64 if variable.dtype == "float64" else np.float32
    return np.array(keras.ops.convert_to_numpy(variable), wide)
