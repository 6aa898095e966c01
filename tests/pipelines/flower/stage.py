"""A Sangam server on loopback, and a Flower grid in memory whose nodes are threads; ports are the system's choice.

with stage(tmp_path, 4) as hub:
    grid = Room(client_app, hub, 4)
    strategy = hub.secure(FedAvg())
    result = strategy.start(grid, initial, num_rounds=2)
grid.replies       all that the nodes sent back, as the strategy got it
"""

import copy
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore.task_identity import TaskIdentity

from aggregator.config import ServerConfig
from aggregator.local.consortium import Consortium, found, site_names
from aggregator.service.app import Running, serve
from clients.adapters.flower import Plan, SecureMod, SecureStrategy
from clients.blocking import Loop
from clients.operator import Deadlines

BRISK = Deadlines(60.0, 60.0, 60.0, 60.0, 60.0, 0.0)  # a broken line is not waited for
RAISED = 2  # Flower's code of an app that raised
CLIP, WEIGHT_MAX = 4.0, 300
TRAINED, EVALUATED = {"train_loss": 10.0}, {"loss": 10.0, "auc": 1.0}
PLAN = Plan("hearts", CLIP, WEIGHT_MAX, TRAINED, EVALUATED)


@dataclass(frozen=True)
class Hub:
    """A running server, and the consortium's files."""

    running: Running
    consortium: Consortium

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.running.port}"

    def identity(self, context: Context) -> Path:
        return self.consortium.site(int(context.node_config["partition-id"]))

    def mod(self, plan: Plan = PLAN, **how: Any) -> SecureMod:
        return SecureMod(plan, self.address, self.identity, **how)

    def secure(self, inner: Strategy, plan: Plan = PLAN, **how: Any) -> SecureStrategy:
        return SecureStrategy(inner, plan, self.address, self.consortium.operator, **{"deadlines": BRISK, **how})


@contextmanager
def stage(directory: Path, sites: int) -> Iterator[Hub]:
    """A consortium of that many sites, and its server, in a thread of its own."""
    consortium = found(directory, site_names("hospital", sites), datetime.now(UTC))
    config = ServerConfig("127.0.0.1:0", consortium.aggregator, consortium.roster)
    with Loop() as loop:
        serving = serve(config)
        running = loop.run(serving.__aenter__())
        try:
            yield Hub(running, consortium)
        finally:
            loop.run(serving.__aexit__(None, None, None))


@dataclass
class Room(Grid):
    """Nodes that all answer at once, each in a thread of its own; what they get and send is a copy.

    Args:
        app: what each node runs.
        nodes: how many.
        absent: (server round, message type, partition) of nodes whose process dies before it answers.
        run_config: what the submitter of the run says to all of them.
    """

    app: ClientApp
    nodes: int
    absent: frozenset[tuple[int, str, int]] = frozenset()
    run_config: dict[str, Any] = field(default_factory=dict)
    sent: list[Message] = field(default_factory=list)
    replies: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # a message names its run

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        sent = [copy.deepcopy(message) for message in messages]
        self.sent += copy.deepcopy(sent)
        with ThreadPoolExecutor(self.nodes) as pool:
            replies = [reply for reply in pool.map(self._answer, sent) if reply is not None]
        self.replies += replies
        return replies

    def _answer(self, message: Message) -> Message | None:
        part = message.metadata.dst_node_id - 1
        context = Context(
            1, part + 1, {"partition-id": part, "num-partitions": self.nodes}, RecordDict(), self.run_config
        )
        number = message.content["config"]["server-round"]
        if (number, message.metadata.message_type, part) in self.absent:
            return None
        try:
            return self.app(message, context)
        except Exception as error:  # noqa: BLE001 as Flower's own runtimes do
            return Message(Error(RAISED, f"{type(error).__name__}: {error}"), reply_to=message)

    def get_node_ids(self) -> Iterable[int]:
        return range(1, self.nodes + 1)

    # What strategies never call.
    @property
    def run(self) -> Any: ...
    def set_run(self, run: Any) -> None: ...
    def create_message(self, *arguments: Any, **named: Any) -> Any: ...
    def push_messages(self, messages: Iterable[Message]) -> Any: ...
    def pull_messages(self, message_ids: Iterable[str]) -> Any: ...
