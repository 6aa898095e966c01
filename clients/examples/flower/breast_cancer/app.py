"""The app with secure rounds: one mod more, and the strategy wrapped. The rest is `training`, as it was."""

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from breast_cancer import training
from clients.adapters.flower import SecureMod, SecureStrategy


def identity(context: Context) -> Path:
    """In the simulation one machine plays all sites; a node of its own says `sangam-identity` instead."""
    return Path(str(context.run_config["sites"])) / f"hospital-{int(context.node_config['partition-id']) + 1:02}"


def address(context: Context) -> str:
    """The aggregator; a node of its own may say `sangam-address` instead."""
    return str(context.run_config["address"])


client = training.client([SecureMod(address, identity)])
server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Train."""
    config, nodes = context.run_config, int(context.run_config["nodes"])
    strategy = SecureStrategy(
        FedAvg(min_train_nodes=nodes, min_evaluate_nodes=nodes, min_available_nodes=nodes),
        address(context),
        str(config["operator"]),
        task=str(config["task"]),
        clip=4.0,
        weight_max=300,
        train_metrics={"train_loss": 10.0},
        evaluate_metrics={"loss": 10.0, "auc": 1.0},
    )
    strategy.start(grid, training.initial(), num_rounds=int(config["rounds"]))
