"""A Flower strategy around another one: the mean comes from a secure round, all else is the inner strategy's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from aggregator.errors import ParameterError
from aggregator.wire.operator_messages import Deadlines
from clients.adapters.contract import layout
from clients.adapters.flower import rounds
from clients.adapters.flower.averaging import check_averages
from clients.adapters.flower.records import Arrays, Tag, averaged
from clients.adapters.flower.rounds import Plan, Running


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """One training or evaluation under way."""

    running: Running
    base: Arrays = field(repr=False)
    tag: Tag


class SecureStrategy(Strategy):
    """Hands the inner strategy one reply in place of all: the weighted mean, and how many examples stand behind it.

    A round that gives no sum is to the inner strategy one in which every node failed: Flower's own strategies then keep
    the model and go on. A server that cannot be reached, or that refuses, ends the run with its error.

    Args:
        inner: any strategy that averages.
        address: host:port of the aggregator.
        identity: directory of an operator's identity.
        task: names the run's tasks; another name for each run, since nodes contribute once per task and model.
        clip: entries of an update, times the node's weight over `weight_max`, are clipped to [-clip, clip].
        weight_max: the number of examples of the largest node, or somewhat more.
        train_metrics: those that are averaged after training, each with the largest absolute value that it may have.
        evaluate_metrics: the same after evaluation; without any, there is no evaluation at the nodes.
        minimum_cohort: of fewer nodes there is no sum. Each node insists on a number of its own besides.
        value_bits: of one quantised value.
        wait_s: how long a round waits, from its start, for nodes that do not come; longer than training takes.
        deadlines: of a round's steps; by default for a hospital's line.
        averaging: the inner strategy is of one's own, and uses nothing but weighted means.

    Raises:
        ParameterError: the inner strategy needs single updates; later, it chooses fewer nodes than a sum needs.
    """

    def __init__(
        self,
        inner: Strategy,
        address: str,
        identity: Path | str,
        *,
        task: str,
        clip: float,
        weight_max: int,
        train_metrics: Mapping[str, float] | None = None,
        evaluate_metrics: Mapping[str, float] | None = None,
        minimum_cohort: int = 3,
        value_bits: int = 16,
        wait_s: float = 3_600.0,
        deadlines: Deadlines | None = None,
        averaging: bool = False,
    ) -> None:
        check_averages(inner, averaging)
        self.inner = inner
        self._plan = Plan(address, identity, task, clip, weight_max, minimum_cohort, value_bits, wait_s, deadlines)
        self._metrics = {MessageType.TRAIN: train_metrics or {}, MessageType.EVALUATE: evaluate_metrics or {}}
        self._turn: _Turn | None = None

    def summary(self) -> None:
        """Log the inner strategy's configuration."""
        self.inner.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages, with word of the secure round, which is started."""
        messages = list(self.inner.configure_train(server_round, arrays, config, grid))
        return self._begin(MessageType.TRAIN, messages, arrays)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What the inner strategy makes of the mean."""
        arrays, metrics = self.inner.aggregate_train(server_round, self._end(MessageType.TRAIN, list(replies)))
        return arrays, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As `configure_train`; no messages where no metrics are to be averaged."""
        if not self._metrics[MessageType.EVALUATE]:
            return []
        messages = list(self.inner.configure_evaluate(server_round, arrays, config, grid))
        return self._begin(MessageType.EVALUATE, messages, arrays)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """What the inner strategy makes of the metrics' means."""
        return self.inner.aggregate_evaluate(server_round, self._end(MessageType.EVALUATE, list(replies)))

    def _begin(self, kind: str, messages: list[Message], arrays: ArrayRecord) -> list[Message]:
        self._turn, least = None, self._plan.minimum_cohort
        if messages and len(messages) < least:
            raise ParameterError(
                f"the inner strategy chose {len(messages)} nodes, a sum needs {least}: set its min_{kind}_nodes"
            )
        if messages:
            base = {name: array.numpy() for name, array in arrays.items()}
            metrics, trains = self._metrics[kind], kind == MessageType.TRAIN
            tensors = layout(base if trains else {}, metrics)
            running = rounds.start(self._plan, kind, tensors, base, len(messages))
            weighted_by = getattr(self.inner, "weighted_by_key", "num-examples")
            self._turn = _Turn(running, base, Tag(running.task, trains, tuple(metrics), weighted_by))
            for message in messages:
                self._turn.tag.write(message.content)
        return messages

    def _end(self, kind: str, replies: list[Message]) -> list[Message]:
        """The failures, and the mean in a reply of its own where there is one."""
        failures = [reply for reply in replies if reply.has_error()]
        turn, self._turn = self._turn, None
        if turn is None:
            return failures
        result = rounds.finish(self._plan, turn.running, len(replies) - len(failures))
        if result is None:
            return failures
        return [Message(averaged(turn.base, result, turn.tag), dst_node_id=0, message_type=kind), *failures]
