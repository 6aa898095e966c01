"""One side of flower_app.py: a process that runs the app in Flower's simulation and says what it cost, as JSON.

    python -m benchmarks.peers.flower_app_side plain|secaggplus|sangam --clients 10 --entries 1000000 --rounds 3

The app is the same for all: each node adds to half the model a vector that it draws, the server takes the mean.
`plain` is Flower without secure aggregation. `secaggplus` is Flower's own, as it ships: `SecAggPlusWorkflow` and
`secaggplus_mod`, which know the legacy clients only. `sangam` is the drop-in, with its server in a thread of this
process, on loopback.

With --count it also adds up what the nodes send: of every reply that reaches the grid all objects, as Flower serialises
them, and of Sangam's participants every message, as its server counts them. Without it nothing is counted.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import LegacyContext, ServerConfig
from flwr.server import strategy as legacy
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from aggregator import config as sangam
from aggregator.local.consortium import found, site_names
from aggregator.service.app import serve
from clients.adapters.flower import Plan, SecureMod, SecureStrategy
from clients.blocking import Loop

EXAMPLES = 1_000  # each node's weight: the default max_weight of SecAgg+
STEP, KEPT = 1.0, 0.5  # so no entry of a model is beyond 2, nor of an update; SecAgg+ clips models to [-8, 8]
CLIP = 2.0
WORKERS = 2


def main() -> None:
    arguments = parse()
    ticks: list[float] = []
    model, sent = SIDES[arguments.side](arguments, ticks)
    mean = sum(drawn(part, arguments) for part in range(arguments.clients)) / arguments.clients
    wanted = mean * (1 - KEPT**arguments.rounds) / (1 - KEPT)
    worst = float(np.abs(model - wanted).max())
    print(
        json.dumps(
            {**vars(arguments), "worst_error": worst, "exact": worst < 0.01, "sent_bytes": sent, **rounds(ticks)}
        )
    )


def rounds(ticks: list[float]) -> dict[str, list[float]]:
    """How long each round took after the first, in which Ray's workers import what they need."""
    return {"round_s": [after - before for before, after in itertools.pairwise(ticks)]}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shares", type=int, default=3, help="SecAgg+: odd; a node has one neighbour fewer")
    parser.add_argument("--threshold", type=int, default=2, help="SecAgg+: shares that recover a secret")
    parser.add_argument("--bits", type=int, default=16, help="Sangam: of one value")
    parser.add_argument("--count", action="store_true", help="count what the nodes send")
    return parser.parse_args()


def drawn(part: int, arguments: argparse.Namespace) -> Any:
    """What that node adds in each round."""
    return np.random.default_rng(part).uniform(-STEP, STEP, arguments.entries).astype(np.float32)


def trained_on(model: Any, part: int, arguments: argparse.Namespace) -> Any:
    """What that node makes of a model."""
    return np.float32(KEPT) * model + drawn(part, arguments)


def simulate(arguments: argparse.Namespace, app: ClientApp, run: Callable[[Grid, Context], Any]) -> tuple[Any, int]:
    """The model in the end, and what the nodes have sent to Flower's server."""
    server, ends, sent = ServerApp(), [], [0]

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        if arguments.count:
            count(grid, sent)
        ends.append(run(grid, context))

    resources = {"client_resources": {"num_cpus": 1}, "init_args": {"num_cpus": WORKERS}}
    run_simulation(server, app, arguments.clients, backend_config=resources)
    return ends[0], sent[0]


def count(grid: Grid, sent: list[int]) -> None:
    """Add the size of each reply to `sent`."""
    inner = grid.send_and_receive

    def counted(messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        replies = list(inner(messages, timeout=timeout))
        for reply in replies:
            sent[0] += sum(len(each.deflate()) for each in get_all_nested_objects(reply).values())
        return replies

    grid.send_and_receive = counted


def message_app(arguments: argparse.Namespace, mods: list[Any]) -> ClientApp:
    app = ClientApp(mods=mods)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        model = trained_on(message.content["arrays"]["model"].numpy(), context.node_config["partition-id"], arguments)
        arrays, metrics = ArrayRecord({"model": Array(model)}), MetricRecord({"num-examples": EXAMPLES})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return app


def averaging(arguments: argparse.Namespace) -> FedAvg:
    nodes = arguments.clients
    return FedAvg(min_train_nodes=nodes, min_available_nodes=nodes, fraction_evaluate=0.0)


def trained(strategy: Any, arguments: argparse.Namespace, ticks: list[float]) -> Callable[[Grid, Context], Any]:
    def tick(number: int, _: ArrayRecord) -> None:
        if number:
            ticks.append(time.perf_counter())

    def run(grid: Grid, _: Context) -> Any:
        start = ArrayRecord({"model": Array(np.zeros(arguments.entries, np.float32))})
        ended = strategy.start(grid, start, num_rounds=arguments.rounds, evaluate_fn=tick)
        return ended.arrays["model"].numpy()

    return run


def plain(arguments: argparse.Namespace, ticks: list[float]) -> tuple[Any, int]:
    return simulate(arguments, message_app(arguments, []), trained(averaging(arguments), arguments, ticks))


def secure(arguments: argparse.Namespace, ticks: list[float]) -> tuple[Any, int]:
    with tempfile.TemporaryDirectory() as place, Loop() as loop:
        directory = Path(place)
        members = found(directory, site_names("hospital", arguments.clients), datetime.now(UTC))
        serving = serve(sangam.ServerConfig("127.0.0.1:0", members.aggregator, members.roster))
        running = loop.run(serving.__aenter__())
        address, sites = f"127.0.0.1:{running.port}", [members.site(part) for part in range(arguments.clients)]
        plan = Plan("bench", CLIP, EXAMPLES, value_bits=arguments.bits)
        mod = SecureMod(plan, address, lambda context: sites[context.node_config["partition-id"]])
        strategy = SecureStrategy(averaging(arguments), plan, address, members.operator)
        model, sent = simulate(arguments, message_app(arguments, [mod]), trained(strategy, arguments, ticks))
        loop.run(serving.__aexit__(None, None, None))
    received = next(each for each in running.metrics.registry.collect() if each.name == "sangam_received_bytes")
    uploaded = sum(
        each.value
        for each in received.samples
        if each.name.endswith("_total") and "Operator" not in each.labels["method"]
    )
    return model, sent + (int(uploaded) if arguments.count else 0)


class Adding(NumPyClient):
    """The same app for Flower's legacy interface."""

    def __init__(self, part: int, arguments: argparse.Namespace) -> None:
        self.part = part
        self.arguments = arguments

    def fit(self, parameters: list[Any], config: dict[str, Any]) -> tuple[list[Any], int, dict[str, Any]]:
        return [trained_on(parameters[0], self.part, self.arguments)], EXAMPLES, {}


class Keep(legacy.FedAvg):
    """Keeps the model of the last round, and when each round ended."""

    def __init__(self, ticks: list[float], **options: Any) -> None:
        super().__init__(**options)
        self.ticks = ticks
        self.model: Any = None

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        self.model = parameters_to_ndarrays(parameters)[0]
        self.ticks.append(time.perf_counter())
        return parameters, metrics


def secaggplus(arguments: argparse.Namespace, ticks: list[float]) -> tuple[Any, int]:
    def client(context: Context) -> Any:
        return Adding(int(context.node_config["partition-id"]), arguments).to_client()

    def run(grid: Grid, context: Context) -> Any:
        start = ndarrays_to_parameters([np.zeros(arguments.entries, np.float32)])
        nodes = arguments.clients
        strategy = Keep(
            ticks, min_fit_clients=nodes, min_available_clients=nodes, fraction_evaluate=0.0, initial_parameters=start
        )
        config = ServerConfig(num_rounds=arguments.rounds)
        workflow = DefaultWorkflow(fit_workflow=SecAggPlusWorkflow(arguments.shares, arguments.threshold))
        workflow(grid, LegacyContext(context=context, config=config, strategy=strategy))
        return strategy.model

    return simulate(arguments, ClientApp(client_fn=client, mods=[secaggplus_mod]), run)


SIDES = {"plain": plain, "secaggplus": secaggplus, "sangam": secure}

if __name__ == "__main__":
    sys.exit(main())
