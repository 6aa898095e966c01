"""A Flower strategy around another one: the mean comes from a secure round, all else is the inner strategy's."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from aggregator.errors import ParameterError
from aggregator.wire.operator_messages import Deadlines
from clients.adapters.flower.averaging import check_averages
from clients.adapters.flower.plan import Plan
from clients.adapters.flower.records import Arrays, ask, averaged
from clients.adapters.flower.rounds import Rounds, Running

WAIT_S = 3_600.0


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """One training or evaluation under way."""

    running: Running
    base: Arrays = field(repr=False)


class SecureStrategy(Strategy):
    """Hands the inner strategy one reply in place of all: the weighted mean, and how many examples stand behind it.

    A round that gives no sum is to the inner strategy one in which every node failed: Flower's own strategies then keep
    the model and go on. A server that cannot be reached, or that refuses, ends the run with its error.

    Args:
        inner: any strategy that averages.
        plan: the one that the nodes have.
        address: host:port of the aggregator.
        identity: directory of an operator's identity.
        wait_s: how long a round waits, from its start, for nodes that do not come; longer than training takes.
        deadlines: of a round's steps; by default for a hospital's line.
        averaging: the inner strategy is of one's own, and uses nothing but weighted means.

    Raises:
        ParameterError: the inner strategy needs single updates, or weighs by another metric than the plan; later, it
            chooses fewer nodes than a sum needs.
    """

    def __init__(
        self,
        inner: Strategy,
        plan: Plan,
        address: str,
        identity: Path | str,
        *,
        wait_s: float = WAIT_S,
        deadlines: Deadlines | None = None,
        averaging: bool = False,
    ) -> None:
        check_averages(inner, averaging)
        weighted_by = getattr(inner, "weighted_by_key", plan.weighted_by)
        if weighted_by != plan.weighted_by:
            raise ParameterError(f"the inner strategy weighs by {weighted_by!r}, the plan by {plan.weighted_by!r}")
        self.inner = inner
        self._plan = plan
        self._rounds = Rounds(plan, address, identity, wait_s, deadlines)
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
        if not self._plan.evaluate_metrics:
            return []
        messages = list(self.inner.configure_evaluate(server_round, arrays, config, grid))
        return self._begin(MessageType.EVALUATE, messages, arrays)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """What the inner strategy makes of the metrics' means."""
        return self.inner.aggregate_evaluate(server_round, self._end(MessageType.EVALUATE, list(replies)))

    def _begin(self, kind: str, messages: list[Message], arrays: ArrayRecord) -> list[Message]:
        self._turn, nodes, least = None, len(messages), self._plan.minimum_cohort
        if messages and nodes < least:
            raise ParameterError(
                f"the inner strategy chose {nodes} nodes, a sum needs {least}: set its min_{kind}_nodes"
            )
        if messages:
            base = {name: array.numpy() for name, array in arrays.items()}
            self._turn = _Turn(self._rounds.start(kind, base, nodes), base)
            for message in messages:
                ask(message.content, nodes)
        return messages

    def _end(self, kind: str, replies: list[Message]) -> list[Message]:
        """The failures, and the mean in a reply of its own where there is one."""
        failures = [reply for reply in replies if reply.has_error()]
        turn, self._turn = self._turn, None
        if turn is None:
            return failures
        result = self._rounds.finish(turn.running, len(replies) - len(failures))
        if result is None:
            return failures
        content = averaged(turn.base, result, self._plan, kind)
        return [Message(content, dst_node_id=0, message_type=kind), *failures]
