"""Pytrees of JAX through the adapter, Flax's among them."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from clients.adapters.jax import Pytree

TREE = {
    "layers": [{"w": jnp.ones((2, 3)), "b": jnp.zeros(3, jnp.bfloat16)}, {"w": jnp.full((3, 1), 2.0)}],
    "steps": jnp.array(7),
    "key": jax.random.key(0),
    "name": "mlp",
}


def test_float_leaves_travel_and_all_others_stay():
    tensors = Pytree().flatten(TREE)
    assert sorted(tensors) == ["layers/0/b", "layers/0/w", "layers/1/w"]
    assert {array.dtype for array in tensors.values()} == {np.dtype(np.float32)}
    after = Pytree().unflatten(TREE, {name: array + 1 for name, array in tensors.items()})
    assert jax.tree.structure(after) == jax.tree.structure(TREE)
    assert np.array_equal(after["layers"][0]["w"], np.full((2, 3), 2.0))
    assert after["layers"][0]["b"].dtype == jnp.bfloat16
    assert (int(after["steps"]), after["name"], after["key"]) == (7, "mlp", TREE["key"])
    assert np.array_equal(TREE["layers"][0]["w"], np.ones((2, 3))), "a pytree is never changed"


def test_flattened_arrays_are_copies():
    for array in Pytree().flatten(TREE).values():
        array[...] = 7
    assert np.array_equal(TREE["layers"][1]["w"], np.full((3, 1), 2.0))


def test_a_network_of_flax_predicts_the_same_after_a_journey():
    network, x = linen.Dense(2), jnp.linspace(-1, 1, 15).reshape(5, 3)
    there, here = (network.init(jax.random.key(seed), x) for seed in (0, 1))
    assert sorted(Pytree().flatten(there)) == ["params/bias", "params/kernel"]
    assert not np.array_equal(network.apply(there, x), network.apply(here, x))
    assert np.array_equal(network.apply(Pytree().unflatten(here, Pytree().flatten(there)), x), network.apply(there, x))


def test_a_module_of_nnx_travels_by_its_state():
    x = jnp.linspace(-1, 1, 15).reshape(5, 3)
    there, here = (nnx.Linear(3, 2, rngs=nnx.Rngs(seed)) for seed in (0, 1))
    graph, state = nnx.split(here)
    tensors = Pytree().flatten(nnx.state(there))
    assert len(tensors) == 2
    assert np.array_equal(nnx.merge(graph, Pytree().unflatten(state, tensors))(x), there(x))
