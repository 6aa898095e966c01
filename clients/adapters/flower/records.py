"""Flower's records as the tensors of a secure round, and back: pure functions, the same on both sides.

Arrays travel as differences to the arrays that the message brought, each metric as a scalar `metric.<name>`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from aggregator.errors import ParameterError
from clients.adapters.contract import metrics, with_metrics
from clients.result import RoundResult

RECORD = "sangam"
KEYS = {"task", "arrays", "metrics", "weighted-by"}

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Tag:
    """What the strategy tells a node with each message: where its reply's content goes, instead of back.

    Attributes:
        task: the task of the secure round.
        arrays: whether arrays are summed, or metrics only.
        metrics: the names of those that are summed; all others stay at their node.
        weighted_by: the metric that counts the node's examples.
    """

    task: str
    arrays: bool
    metrics: tuple[str, ...]
    weighted_by: str

    def write(self, content: RecordDict) -> None:
        """Add this to a message."""
        content[RECORD] = ConfigRecord(
            {"task": self.task, "arrays": self.arrays, "metrics": list(self.metrics), "weighted-by": self.weighted_by}
        )

    @classmethod
    def take(cls, content: RecordDict) -> "Tag":
        """Remove it from a message, so that the app sees what its own strategy sent.

        Raises:
            ParameterError: the message has none, and a reply to it would go to the server in the clear.
        """
        record = content.pop(RECORD, None)
        if not isinstance(record, ConfigRecord) or record.keys() != KEYS:
            raise ParameterError("this message asks for no secure round: is the strategy wrapped in SecureStrategy?")
        return cls(str(record["task"]), bool(record["arrays"]), _names(record["metrics"]), str(record["weighted-by"]))


def arrays_of(content: RecordDict) -> Arrays:
    """The arrays of a message or reply by name; ParameterError unless it has one ArrayRecord."""
    if len(content.array_records) != 1:
        raise ParameterError(f"{len(content.array_records)} ArrayRecords, a secure round takes exactly one")
    return {name: array.numpy() for name, array in next(iter(content.array_records.values())).items()}


def contribution(reply: RecordDict, base: Arrays, tag: Tag) -> tuple[Arrays, int]:
    """A reply's update, float64 by tensor name, and its weight, a number of examples.

    Raises:
        ParameterError: the reply lacks an array or a metric, or has one that is no number.
    """
    arrays = arrays_of(reply) if tag.arrays else {}
    for name in arrays.keys() | base.keys() if tag.arrays else ():
        if name not in arrays or name not in base or arrays[name].shape != base[name].shape:
            raise ParameterError(f"array {name!r} is not the same in message and reply")
    update = {name: array.astype(np.float64) - base[name].astype(np.float64) for name, array in arrays.items()}
    said = {name: value for record in reply.metric_records.values() for name, value in record.items()}
    for name in (*tag.metrics, tag.weighted_by):
        if not isinstance(said.get(name), int | float):
            raise ParameterError(f"the reply has no metric {name!r} that is a single number")
    return with_metrics(update, {name: said[name] for name in tag.metrics}), _count(said[tag.weighted_by])


def averaged(base: Arrays, result: RoundResult, tag: Tag) -> RecordDict:
    """The one reply that stands for all: means of arrays, in the dtypes of Flower's own mean, and metrics."""
    content = RecordDict({"metrics": MetricRecord({**metrics(result.mean), tag.weighted_by: result.total_weight})})
    if tag.arrays:
        means = {name: (array + result.mean[name]).astype(np.result_type(array, 1.0)) for name, array in base.items()}
        content["arrays"] = ArrayRecord({name: Array(np.asarray(mean)) for name, mean in means.items()})
    return content


def _names(names: object) -> tuple[str, ...]:
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _count(examples: float) -> int:
    if not float(examples).is_integer():
        raise ParameterError("the number of examples is no whole number")
    return int(examples)
