"""Stock strategies, with and without secure rounds, on the same app and the same data: the same model."""

import sys
from pathlib import Path

import numpy as np
import pytest
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedYogi

from clients.adapters.flower import SecureMod
from tests.pipelines.flower.stage import CLIP, WEIGHT_MAX, Room, stage

sys.path.insert(0, str(Path(__file__).parents[3] / "clients/examples/flower"))
from breast_cancer import training  # noqa: E402

NODES, ROUNDS = 4, 3
STRATEGIES = {
    "FedAvg": FedAvg,
    "FedProx": lambda: FedProx(proximal_mu=0.1),
    "FedAvgM": lambda: FedAvgM(server_momentum=0.5),
    "FedAdagrad": FedAdagrad,
    "FedAdam": FedAdam,
    "FedYogi": FedYogi,
}


def recorded(strategy):
    """The model after every round."""
    models, aggregate = [], strategy.aggregate_train

    def keep(server_round, replies):
        arrays, metrics = aggregate(server_round, replies)
        models.append({name: array.numpy() for name, array in arrays.items()})
        return arrays, metrics

    strategy.aggregate_train = keep
    return models


def test_one(tmp_path):
    with stage(tmp_path, NODES) as hub:
        plain, secure = FedAvg(), hub.secure(FedAvg())
        a, b = recorded(plain), recorded(secure)
        r1 = plain.start(Room(training.client([]), NODES), training.initial(), num_rounds=ROUNDS)
        r2 = secure.start(Room(training.client([SecureMod(hub.address, hub.identity)]), NODES), training.initial(), num_rounds=ROUNDS)
    for x, y in zip(a, b): print({n: abs(x[n]-y[n]).max() for n in x}, x["coef"].dtype, y["coef"].dtype)
    print(r1, r2)
