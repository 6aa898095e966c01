"""A process that runs the example in Flower's simulation on Ray; with an address, through secure rounds.

python -m tests.pipelines.flower.simulation NODES ROUNDS [ADDRESS DIRECTORY]

Last line of stdout: the metrics of each round and the model, as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from clients.adapters.flower import SecureMod, SecureStrategy
from tests.pipelines.flower.app import training
from tests.pipelines.flower.stage import PLAN

WORKERS = 2


def main(nodes: int, rounds: int, where: list[str]) -> None:
    strategy: Any = FedAvg(min_train_nodes=nodes, min_evaluate_nodes=nodes, min_available_nodes=nodes)
    mods, server = [], ServerApp()
    if where:
        address, directory = where

        def identity(context: Context) -> Path:
            return Path(directory) / f"hospital-{int(context.node_config['partition-id']) + 1:02}"

        mods.append(SecureMod(PLAN, address, identity))
        strategy = SecureStrategy(strategy, PLAN, address, Path(directory) / "operator")

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        result = strategy.start(grid, training.initial(), num_rounds=rounds)
        found = {
            "train": [dict(each) for each in result.train_metrics_clientapp.values()],
            "evaluate": [dict(each) for each in result.evaluate_metrics_clientapp.values()],
            "model": {name: array.numpy().ravel().tolist() for name, array in result.arrays.items()},
        }
        sys.stdout.write(json.dumps(found) + "\n")

    resources = {"client_resources": {"num_cpus": 1}, "init_args": {"num_cpus": WORKERS}}
    run_simulation(server, training.client(mods), nodes, backend_config=resources)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
