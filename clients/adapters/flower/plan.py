"""What the nodes of a training run agree on before it begins, and what a Flower server therefore cannot choose.

Both sides hold the same plan, in a module of the app that they share. A node goes by its own, whatever it is sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import MessageType

from aggregator.errors import ParameterError
from aggregator.protocol.parameters import Parameters
from clients.adapters.contract import Tensors, layout

KINDS = (MessageType.TRAIN, MessageType.EVALUATE)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run's updates and metrics are summed.

    Args:
        task: names the run's tasks; a node contributes once to them on one model, and once more to evaluate it.
        clip: entries of an update, times the node's weight over `weight_max`, are clipped to [-clip, clip].
        weight_max: the number of examples of the largest node, or somewhat more. A node with more takes no part.
        train_metrics: those that are averaged after training, each with the largest absolute value that it may have.
        evaluate_metrics: the same after evaluation; without any, there is no evaluation at the nodes.
        minimum_cohort: of fewer nodes there is no sum. Each node insists on a number of its own besides.
        value_bits: of one quantised value.
        weighted_by: the metric that counts a node's examples.

    Raises:
        ParameterError: as `Parameters`, no name, or a metric that is the weight.
    """

    task: str
    clip: float
    weight_max: int
    train_metrics: Mapping[str, float] = field(default_factory=dict)
    evaluate_metrics: Mapping[str, float] = field(default_factory=dict)
    minimum_cohort: int = 3
    value_bits: int = 16
    weighted_by: str = "num-examples"

    def __post_init__(self) -> None:
        if not self.task:
            raise ParameterError("a plan's task needs a name")
        if self.weighted_by in self.train_metrics or self.weighted_by in self.evaluate_metrics:
            raise ParameterError(f"{self.weighted_by!r} is the weight: its total comes with every sum")
        for kind in KINDS:
            if kind == MessageType.TRAIN or self.evaluate_metrics:
                self.parameters(kind, {"any": np.zeros(1)}, self.minimum_cohort)

    @property
    def alike(self) -> tuple[str, ...]:
        """Beginnings of the tasks' names: whatever the number of nodes, a node contributes once to each on a model."""
        return tuple(f"{self.task}.{kind}." for kind in KINDS)

    def name(self, kind: str, nodes: int) -> str:
        """The task's name, for rounds of that kind and number of nodes."""
        return f"{self.task}.{kind}.{nodes}"

    def metrics(self, kind: str) -> Mapping[str, float]:
        """What is averaged in rounds of that kind."""
        return self.train_metrics if kind == MessageType.TRAIN else self.evaluate_metrics

    def parameters(self, kind: str, arrays: Tensors, nodes: int) -> Parameters:
        """How that many nodes encode their contributions to a round over these arrays; the order is by name.

        Raises:
            ParameterError: as `Parameters`.
        """
        sorted_metrics = dict(sorted(self.metrics(kind).items()))
        tensors = layout(dict(sorted(arrays.items())) if kind == MessageType.TRAIN else {}, sorted_metrics)
        return Parameters(tensors, self.clip, nodes, self.minimum_cohort, self.weight_max, self.value_bits)
