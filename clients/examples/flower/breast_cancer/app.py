"""The app with secure rounds: one mod more, and the strategy wrapped. The rest is `training`, as it was.

A hospital's own node configuration says where the aggregator is and who the hospital is. A run's configuration comes
from whoever submits the run, so it says so only in the simulation, where one machine plays all hospitals.
"""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from breast_cancer import training
from breast_cancer.plan import PLAN
from clients.adapters.flower import SecureMod, SecureStrategy, in_simulation


def address(context: Context) -> str:
    """The aggregator of a simulated hospital."""
    return str(context.run_config["address"]) if in_simulation() else ""


def identity(context: Context) -> str:
    """The directory of a simulated hospital."""
    if not in_simulation():
        return ""
    return f"{context.run_config['sites']}/hospital-{int(context.node_config['partition-id']) + 1:02}"


client = training.client([SecureMod(PLAN, address, identity)])
server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Train."""
    config, nodes = context.run_config, int(context.run_config["nodes"])
    averaging = FedAvg(min_train_nodes=nodes, min_evaluate_nodes=nodes, min_available_nodes=nodes)
    strategy = SecureStrategy(averaging, PLAN, str(config["address"]), str(config["operator"]))
    strategy.start(grid, training.initial(), num_rounds=int(config["rounds"]))
