"""Flower's SecAgg+ on one machine: seconds of one client's mask step and of the server's sum and unmask.

Runs in `.venv-peers`. Flower's own `SecAggPlusWorkflow` and `secaggplus_mod` run a whole round as they ship, over a
grid that hands messages from memory to memory. What the clients answer is prepared once; the server's two last stages
are then repeated on those answers.

Measured:
- server: from the masked vectors as bytes to the unmasked mean. The clocks run from the moment when the grid hands
  over the replies until the stage is done, in both stages, and stop where the strategy takes over. In it are np.load
  of each vector, sum, Shamir, masks of survivors and of dropouts' pairs, dequantisation, one np.save of the mean.
  `server_recovery_s` is the part that doesn't depend on the entries: Shamir, in plain Python, measured apart next to
  each run. `server_values_cpu_s` is the rest of that run.
- client: weighting, quantisation, factor, own mask, masks of all neighbours, modulus, on keys that are agreed already.
- bytes: all that one client uploads in the four stages, as Flower's records serialise themselves.
NOT measured: network, gRPC, object store, start-up, training, `Strategy.aggregate_fit`, the server's set-up stages. The
client's step without key agreement, decryption of shares and np.save is `client_mask_s`; with them, `client_stage_s`.

The mean is compared with the plain mean, and the client's step with what `_collect_masked_vectors` sends, bit by bit.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
from flower_loopback import EXAMPLES, Loopback, now
from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict
from flwr.client.mod.secure_aggregation.secaggplus_mod import SecAggPlusState, _collect_masked_vectors
from flwr.common import FitIns, Parameters, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.server import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import WorkflowState
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key
from flwr.supercore.task_identity import TaskIdentity


def main() -> None:
    arguments = parse()
    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # a message names its run
    logging.getLogger("flwr").setLevel(logging.WARNING)
    peers = Loopback(arguments.clients, arguments.entries, arguments.dropouts)
    workflow = SecAggPlusWorkflow(arguments.shares, arguments.shares // 2 + 1)
    context, state = set_up(workflow, peers)
    mean = unmasked(workflow, peers, context, state).mean  # the clients answer, once for all runs
    found = [server(workflow, peers, context, state) for _ in range(arguments.repeats)]
    worst = check_mean(mean, peers, workflow)
    figures = {
        **timed("server", [whole for whole, _ in found]),
        **timed("server_recovery", [recovery for _, recovery in found]),
        "server_values_cpu_s": median(whole[1] - recovery[1] for whole, recovery in found),
        **client(peers, arguments.repeats),
        "bytes_per_value": max(peers.uploaded[node] for node in peers.survivors) / arguments.entries,
        "mean_worst_error": worst,
        "quantisation_step": 2 * workflow.clipping_range / workflow.quantization_range,
    }
    versions = {name: version(name) for name in ("flwr", "numpy", "cryptography", "pycryptodome")}
    print(json.dumps({"peer": "flower", **vars(arguments), **figures, "versions": versions}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Last line of stdout: JSON."
    )
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--entries", type=int, default=1_000_000, help="float32 values per client")
    parser.add_argument("--dropouts", type=int, default=0, help="clients that vanish before their masked vector")
    parser.add_argument("--shares", type=int, default=15, help="odd; a client has one neighbour fewer")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


class Keep(FedAvg):
    """All clients take part; the clocks stop where the aggregate arrives."""

    def __init__(self, nodes: Iterable[int]) -> None:
        super().__init__()
        self.nodes = nodes
        self.arrived = now()
        self.mean: Any = None

    def configure_fit(self, server_round: int, parameters: Parameters, client_manager: Any) -> Any:
        return [(SimpleNamespace(node_id=node), FitIns(parameters, {})) for node in self.nodes]

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        self.arrived = now()
        self.mean = parameters_to_ndarrays(results[0][1].parameters)[0]
        return None, {}


@dataclass(frozen=True, slots=True)
class Unmasked:
    """One run of the server's two stages."""

    seconds: float
    cpu_seconds: float
    mean: Any


def timed(name: str, both: list[tuple[float, float]]) -> dict[str, float]:
    """Medians and minima of (seconds, CPU seconds)."""
    wall, cpu = zip(*both, strict=True)
    return {
        f"{name}_s": median(wall),
        f"{name}_min_s": min(wall),
        f"{name}_cpu_s": median(cpu),
        f"{name}_cpu_min_s": min(cpu),
    }


def set_up(workflow: SecAggPlusWorkflow, peers: Loopback) -> tuple[LegacyContext, WorkflowState]:
    """The two stages before masked vectors. The model that goes out is empty: it isn't measured."""
    records = RecordDict({MAIN_CONFIGS_RECORD: ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})})
    records.array_records[MAIN_PARAMS_RECORD] = ArrayRecord()
    context = LegacyContext(Context(1, 0, {}, records, {}), strategy=Keep(peers.nodes))
    state = WorkflowState()
    if not (workflow.setup_stage(peers, context, state) and workflow.share_keys_stage(peers, context, state)):
        sys.exit("Flower's workflow halted during set-up")
    return context, state


def unmasked(
    workflow: SecAggPlusWorkflow, peers: Loopback, context: LegacyContext, after_set_up: WorkflowState
) -> Unmasked:
    """The two last stages, on a copy of what they consume."""
    neighbours = {node: set(each) for node, each in after_set_up.nid_to_neighbours.items()}
    state = replace(after_set_up, nid_to_neighbours=neighbours, legacy_results=[], failures=[])
    if not workflow.collect_masked_vectors_stage(peers, context, state):
        sys.exit("Flower's workflow halted: too few masked vectors")
    summed, sum_from = now(), peers.handed_over
    if not workflow.unmask_stage(peers, context, state):
        sys.exit("Flower's workflow halted: too few shares")
    arrived, unmask_from = context.strategy.arrived, peers.handed_over
    wall, cpu = (summed[i] - sum_from[i] + arrived[i] - unmask_from[i] for i in range(2))
    return Unmasked(wall, cpu, context.strategy.mean)


def server(
    workflow: SecAggPlusWorkflow, peers: Loopback, context: LegacyContext, after_set_up: WorkflowState
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Wall and CPU seconds: both stages, and recovery of all secrets once more, alone."""
    whole = unmasked(workflow, peers, context, after_set_up)
    shares: dict[int, list[bytes]] = {}
    for answer in peers.answers[Stage.UNMASK]:
        record = answer.content.config_records[RECORD_KEY_CONFIGS]
        for owner, share in zip(record[Key.NODE_ID_LIST], record[Key.SHARE_LIST], strict=True):
            shares.setdefault(owner, []).append(share)
    return (whole.seconds, whole.cpu_seconds), seconds(lambda: [combine_shares(each) for each in shares.values()])


def check_mean(mean: Any, peers: Loopback, workflow: SecAggPlusWorkflow) -> float:
    """The worst error of an entry; exits where it is more than stochastic rounding explains."""
    plain = sum(peers.values(node).astype(np.float64) for node in peers.survivors) / len(peers.survivors)
    worst = float(np.abs(mean - plain).max())
    step = 2 * workflow.clipping_range / workflow.quantization_range
    if mean.shape != plain.shape or not worst <= step:
        sys.exit(f"Flower's mean is off by {worst}, a quantisation step is {step}")
    return worst


def client(peers: Loopback, repeats: int) -> dict[str, float]:
    """One client's mask step, and its whole stage with keys and serialisation."""
    node = peers.survivors[0]
    state, values = peers.state(node), peers.values(node)
    configs = peers.instructions[Stage.COLLECT_MASKED_VECTORS, node].content.config_records[RECORD_KEY_CONFIGS]
    keys = pairwise_keys(state, configs[Key.SOURCE_LIST])
    parameters = ndarrays_to_parameters([values])
    check_mask(
        lambda: mask(state, keys, [values]), lambda: _collect_masked_vectors(state, configs, EXAMPLES, parameters)
    )
    both = [
        (
            seconds(lambda: mask(state, keys, [values])),
            seconds(lambda: _collect_masked_vectors(state, configs, EXAMPLES, parameters)),
        )
        for _ in range(repeats)
    ]
    masking, stage = zip(*both, strict=True)
    return {"neighbours": len(keys), **timed("client_mask", masking), **timed("client_stage", stage)}


def seconds(action: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    wall, cpu = now()
    action()
    wall_after, cpu_after = now()
    return wall_after - wall, cpu_after - cpu


def pairwise_keys(state: SecAggPlusState, neighbours: Iterable[int]) -> dict[int, bytes]:
    """Agreed once, as our figure excludes agreement too."""
    private = bytes_to_private_key(state.sk1)
    return {n: generate_shared_key(private, bytes_to_public_key(state.public_keys_dict[n][0])) for n in neighbours}


def mask(state: SecAggPlusState, keys: dict[int, bytes], parameters: list[Any]) -> list[Any]:
    """`_collect_masked_vectors` from its comment "Fit" on, call by call, less key agreement and (de)serialisation."""
    q_ratio = round(EXAMPLES / state.max_weight * state.target_range)
    parameters = parameters_multiply(parameters, q_ratio / state.target_range)
    quantized = factor_combine(q_ratio, quantize(parameters, state.clipping_range, state.target_range))
    dimensions = [a.shape for a in quantized]
    quantized = parameters_addition(quantized, pseudo_rand_gen(state.rd_seed, state.mod_range, dimensions))
    for node, key in keys.items():
        pairwise = pseudo_rand_gen(key, state.mod_range, dimensions)
        combine = parameters_addition if state.nid > node else parameters_subtraction
        quantized = combine(quantized, pairwise)
    return parameters_mod(quantized, state.mod_range)


def check_mask(ours: Callable[[], list[Any]], theirs: Callable[[], dict[str, Any]]) -> None:
    """Exit unless both give the same vectors when NumPy's generator, which rounds, starts from the same seed."""
    np.random.seed(1)
    mirrored = ours()
    np.random.seed(1)
    sent = parameters_to_ndarrays(Parameters(theirs()[Key.MASKED_PARAMETERS], "numpy.ndarray"))
    if len(sent) != len(mirrored) or not all(np.array_equal(a, b) for a, b in zip(sent, mirrored, strict=True)):
        sys.exit("the mask step measured here isn't Flower's")


if __name__ == "__main__":
    main()
