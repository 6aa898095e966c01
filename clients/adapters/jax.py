"""JAX: any pytree of parameters, as Flax, Haiku, Equinox and Optax have them."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from clients.adapters.contract import Array, Combine, Tensors


@dataclass(frozen=True, slots=True)
class Pytree:
    """Pytrees of arrays; leaves of float dtype travel, under their paths, such as `params/Dense_0/kernel`.

    Integers, keys of random generators and leaves that are no arrays stay as they are. A Flax NNX module is split into
    graph and state first (`nnx.split`); its state is a pytree.
    """

    combine: Combine = Combine.MEAN

    def flatten(self, model: Any, /) -> dict[str, Array]:
        """Copies on the host, as float32, doubles as float64."""
        leaves, _ = jax.tree_util.tree_flatten_with_path(model)
        return {_name(path): _array(leaf) for path, leaf in leaves if _travels(leaf)}

    def unflatten(self, model: Any, tensors: Tensors, /) -> Any:
        """Another pytree of the same structure, its leaves of the same dtypes."""

        def leaf(path: tuple[Any, ...], old: Any) -> Any:
            return jnp.asarray(tensors[_name(path)], dtype=old.dtype) if _travels(old) else old

        return jax.tree_util.tree_map_with_path(leaf, model)


def _name(path: tuple[Any, ...]) -> str:
    return str(jax.tree_util.keystr(path, simple=True, separator="/"))


def _travels(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def _array(leaf: Any) -> Array:
    return np.array(leaf, np.float64 if leaf.dtype == np.float64 else np.float32)
