"""Flower's records as the tensors of a secure round, and back: pure functions, the same on both sides.

Arrays travel as differences to the arrays that the message brought, each metric as a scalar `metric.<name>`. Of the
round itself a message says how many nodes there are, and nothing else: the rest is the node's own plan.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict

from aggregator.errors import ParameterError
from aggregator.wire.messages import CLIENTS_MAX
from clients.adapters.contract import metrics, with_metrics
from clients.adapters.flower.plan import KINDS, Plan
from clients.result import RoundResult

RECORD, NODES = "sangam", "nodes"

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]


def ask(content: RecordDict, nodes: int) -> None:
    """Add to a message that it asks for a secure round among that many nodes."""
    content[RECORD] = ConfigRecord({NODES: nodes})


def asked(message: Message, plan: Plan) -> int:
    """Among how many nodes a message asks for a round; removed, so that the app sees what its own strategy sent.

    Raises:
        ParameterError: it asks for none, and a reply to it would go to the server in the clear; or for more than that.
    """
    record = message.content.pop(RECORD, None)
    whole = isinstance(record, ConfigRecord) and record.keys() == {NODES} and message.metadata.message_type in KINDS
    if not whole:
        raise ParameterError("this message asks for no secure round: is the strategy wrapped in SecureStrategy?")
    nodes = record[NODES]
    if type(nodes) is not int or not plan.minimum_cohort <= nodes <= CLIENTS_MAX:
        raise ParameterError(f"a round among {nodes!r} nodes, agreed are {plan.minimum_cohort} to {CLIENTS_MAX}")
    return nodes


def arrays_of(content: RecordDict) -> Arrays:
    """The arrays of a message or reply by name; ParameterError unless it has one ArrayRecord."""
    if len(content.array_records) != 1:
        raise ParameterError(f"{len(content.array_records)} ArrayRecords, a secure round takes exactly one")
    return {name: array.numpy() for name, array in next(iter(content.array_records.values())).items()}


def contribution(reply: RecordDict, base: Arrays, plan: Plan, kind: str) -> tuple[Arrays, int]:
    """A reply's update, float64 by tensor name, and its weight, a number of examples.

    Raises:
        ParameterError: the reply lacks an array or a metric, has one that is no number, or more examples than agreed.
    """
    update = _difference(arrays_of(reply), base) if kind == MessageType.TRAIN else {}
    said = {name: value for record in reply.metric_records.values() for name, value in record.items()}
    names = plan.metrics(kind)
    for name in (*names, plan.weighted_by):
        if not isinstance(said.get(name), int | float):
            raise ParameterError(f"the reply has no metric {name!r} that is a single number")
    examples = said[plan.weighted_by]
    if not float(examples).is_integer() or not 1 <= examples <= plan.weight_max:
        raise ParameterError(f"{examples} examples: the plan allows whole numbers from 1 to {plan.weight_max}")
    return with_metrics(update, {name: said[name] for name in names}), int(examples)


def averaged(base: Arrays, result: RoundResult, plan: Plan, kind: str) -> RecordDict:
    """The one reply that stands for all: means of arrays, in the dtypes of Flower's own mean, and metrics."""
    content = RecordDict({"metrics": MetricRecord({**metrics(result.mean), plan.weighted_by: result.total_weight})})
    if kind == MessageType.TRAIN:
        means = {name: (array + result.mean[name]).astype(np.result_type(array, 1.0)) for name, array in base.items()}
        content["arrays"] = ArrayRecord({name: Array(np.asarray(mean)) for name, mean in means.items()})
    return content


def _difference(arrays: Arrays, base: Arrays) -> Arrays:
    for name in arrays.keys() | base.keys():
        if name not in arrays or name not in base or arrays[name].shape != base[name].shape:
            raise ParameterError(f"array {name!r} is not the same in message and reply")
    return {name: array.astype(np.float64) - base[name].astype(np.float64) for name, array in arrays.items()}
