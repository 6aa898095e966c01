"""A Flax network trained with JAX over five hospitals, beside plain averaging and pooled training.

python clients/examples/jax_mlp.py
"""

import asyncio

import flax.linen as nn
import jax
import jax.numpy as jnp
from sklearn.metrics import roc_auc_score

from aggregator.demo.data import deal
from aggregator.local.trial import plain, try_out
from clients.adapters.jax import Pytree
from clients.training import Trained

HOSPITALS, ROUNDS, STEPS, RATE = 5, 10, 20, 0.2

study = deal(HOSPITALS, seed=1)  # real records, scaled by public constants, split unevenly; a quarter is held out
LARGEST = max(map(len, study.shards))
network = nn.Sequential([nn.Dense(16), nn.relu, nn.Dense(1)])


def new():
    """The first parameters, the same everywhere."""
    return network.init(jax.random.key(0), jnp.zeros((1, 30)))


def loss(parameters, features, labels):
    logits = network.apply(parameters, features)[:, 0]
    return jnp.mean(jnp.logaddexp(0, logits) - labels * logits)


@jax.jit
def step(parameters, features, labels):
    slope = jax.grad(loss)(parameters, features, labels)
    return jax.tree.map(lambda value, by: value - RATE * by, parameters, slope)


def fit(parameters, features, labels, steps):
    """Full-batch descent."""
    for _ in range(steps):
        parameters = step(parameters, features, labels)
    return parameters


def at(hospital):
    """A hospital's own training."""
    records = study.shards[hospital]
    return lambda parameters: Trained(fit(parameters, records.features, records.labels, STEPS), len(records))


trains = [at(hospital) for hospital in range(HOSPITALS)]
models = asyncio.run(try_out(Pytree(), new, trains, rounds=ROUNDS, clip=2.0, weight_max=LARGEST))
twin = plain(Pytree(), new, trains, rounds=ROUNDS)
pooled = fit(new(), study.pooled.features, study.pooled.labels, ROUNDS * STEPS)
for name, parameters in {"Sangam": models[0], "plain averaging": twin, "pooled": pooled}.items():
    scores = network.apply(parameters, study.held_out.features)[:, 0]
    print(f"{name}: AUC {roc_auc_score(study.held_out.labels, scores):.4f}")
