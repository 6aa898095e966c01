"""Keras 3: a model's weights, whatever its backend (JAX, PyTorch, TensorFlow)."""

from dataclasses import dataclass

import keras
import numpy as np

from clients.adapters.contract import Array, Combine, Tensors


@dataclass(frozen=True, slots=True)
class Keras:
    """Built models of Keras; their variables of float dtype travel, as `0.kernel`, `1.bias` and so on.

    The numbers are places in `model.weights`: Keras numbers its layers through a whole process, so the paths of one
    and the same network differ from site to site. States of random generators, and other integers, stay at each site,
    as do the optimiser's variables.
    """

    combine: Combine = Combine.MEAN

    def flatten(self, model: keras.Model, /) -> dict[str, Array]:
        """Copies, as float32, doubles as float64."""
        return {name: _array(variable) for name, variable in _travelling(model).items()}

    def unflatten(self, model: keras.Model, tensors: Tensors, /) -> keras.Model:
        """The same model."""
        for name, variable in _travelling(model).items():
            variable.assign(tensors[name])
        return model


def _travelling(model: keras.Model) -> dict[str, keras.Variable]:
    return {
        f"{place}.{variable.name}": variable
        for place, variable in enumerate(model.weights)
        if keras.backend.is_float_dtype(variable.dtype)
    }


def _array(variable: keras.Variable) -> Array:
    wide = np.float64 if variable.dtype == "float64" else np.float32
    return np.array(keras.ops.convert_to_numpy(variable), wide)
