"""Clients of Flower's SecAgg+ in memory: `secaggplus_mod` as it ships, behind the grid that the workflow speaks to.

Runs in `.venv-peers`; flower.py measures with it. Not part of any figure: what happens in here.
"""

import copy
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.client.mod.secure_aggregation.secaggplus_mod import SecAggPlusState, secaggplus_mod
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, RECORD_KEY_STATE, Key, Stage
from flwr.compat.common import recorddict_compat as compat
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

EXAMPLES = 1000  # each client's weight: the workflow's default max_weight, so that weighted mean = mean


def now() -> tuple[float, float]:
    """Wall clock and CPU clock, in seconds."""
    return time.perf_counter(), time.process_time()


class Loopback(Grid):
    """Clients in memory. They answer a stage once; afterwards the same answers come back at once."""

    def __init__(self, clients: int, entries: int, dropouts: int) -> None:
        self.entries = entries
        self.nodes = range(1, clients + 1)
        self.survivors = self.nodes[dropouts:]
        self.contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in self.nodes}
        self.uploaded = dict.fromkeys(self.nodes, 0)  # bytes
        self.instructions: dict[tuple[str, int], Message] = {}
        self.handed_over = now()
        self.answers: dict[str, list[Message]] = {}

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        sent = list(messages)
        stage = str(sent[0].content.config_records[RECORD_KEY_CONFIGS][Key.STAGE])
        if stage not in self.answers:
            late = stage in (Stage.COLLECT_MASKED_VECTORS, Stage.UNMASK)
            awaited = self.survivors if late else self.nodes
            self.answers[stage] = [self._react(stage, m) for m in sent if m.metadata.dst_node_id in awaited]
        self.handed_over = now()
        return self.answers[stage]

    def _react(self, stage: str, message: Message) -> Message:
        node = message.metadata.dst_node_id
        self.instructions[stage, node] = copy.deepcopy(message)
        answer = secaggplus_mod(copy.deepcopy(message), self.contexts[node], self.train)
        self.uploaded[node] += sum(len(each.deflate()) for each in get_all_nested_objects(answer).values())
        return answer

    def train(self, message: Message, context: Context) -> Message:
        result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([self.values(context.node_id)]), EXAMPLES, {})
        return Message(compat.fitres_to_recorddict(result, keep_input=False), reply_to=message)

    def values(self, node: int) -> Any:
        return np.random.default_rng(node).uniform(-1, 1, self.entries).astype(np.float32)

    def state(self, node: int) -> SecAggPlusState:
        return SecAggPlusState(**self.contexts[node].state.config_records[RECORD_KEY_STATE])

    # What the workflow never calls.
    @property
    def run(self) -> Any: ...
    def set_run(self, run: Any) -> None: ...
    def create_message(self, *arguments: Any, **named: Any) -> Any: ...
    def get_node_ids(self) -> Iterable[int]:
        return self.nodes

    def push_messages(self, messages: Iterable[Message]) -> Any: ...
    def pull_messages(self, message_ids: Iterable[str]) -> Any: ...
