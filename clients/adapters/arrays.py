"""Models that are dictionaries of NumPy arrays already."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clients.adapters.contract import Array, Combine, Tensors


@dataclass(frozen=True, slots=True)
class Arrays:
    """Dictionaries of arrays of float dtype, by tensor name."""

    combine: Combine = Combine.MEAN

    def flatten(self, model: Mapping[str, Array], /) -> dict[str, Array]:
        """Copies."""
        return {name: np.array(array) for name, array in model.items()}

    def unflatten(self, model: Mapping[str, Array], tensors: Tensors, /) -> dict[str, Array]:
        """Another dictionary."""
        return {name: np.array(tensors[name]) for name in model}
