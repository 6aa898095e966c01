"""A Flax network trained with JAX over five hospitals, beside plain averaging and pooled training.

python clients/examples/jax_mlp.py
"""

import asyncio

import flax.linen as nn
import jax
import jax.numpy as jnp
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from aggregator.local.trial import plain, try_out
from clients.adapters.jax import Pytree
from clients.training import Trained

HOSPITALS, ROUNDS, STEPS, RATE = 5, 10, 20, 0.2

x, y = load_breast_cancer(return_X_y=True)
x, x_test, y, y_test = train_test_split(StandardScaler().fit_transform(x), y, test_size=0.3, random_state=0)
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
    mine, labels = jnp.asarray(x[hospital::HOSPITALS]), jnp.asarray(y[hospital::HOSPITALS])
    return lambda parameters: Trained(fit(parameters, mine, labels, STEPS), len(labels))


trains = [at(hospital) for hospital in range(HOSPITALS)]
models = asyncio.run(try_out(Pytree(), new, trains, rounds=ROUNDS, clip=2.0, weight_max=100))
twin = plain(Pytree(), new, trains, rounds=ROUNDS)
pooled = fit(new(), jnp.asarray(x), jnp.asarray(y), ROUNDS * STEPS)
for name, parameters in {"Sangam": models[0], "plain averaging": twin, "pooled": pooled}.items():
    print(f"{name}: AUC {roc_auc_score(y_test, network.apply(parameters, x_test)[:, 0]):.4f}")
