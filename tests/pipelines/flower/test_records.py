"""Flower's records as tensors: what does not fit is refused at the node, by its name."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MessageType, MetricRecord, RecordDict

from aggregator.errors import ParameterError
from clients.adapters.flower import Plan
from clients.adapters.flower.records import ask, asked, contribution

BASE = {"w": np.array([1.0, 2.0], np.float32), "steps": np.array(7, np.int64)}
PLAN = Plan("hearts", 1.0, 20, {"loss": 5.0}, {"loss": 5.0})


def reply(arrays=None, **metrics):
    arrays = {"w": np.array([1.5, 1.0], np.float32), "steps": np.array(9, np.int64)} if arrays is None else arrays
    record = ArrayRecord({name: Array(array) for name, array in arrays.items()})
    return RecordDict({"arrays": record, "metrics": MetricRecord({"loss": 0.25, "num-examples": 12, **metrics})})


def test_arrays_travel_as_differences():
    update, weight = contribution(reply(), BASE, PLAN, MessageType.TRAIN)
    assert {name: array.tolist() for name, array in update.items()} == {
        "w": [0.5, -1.0],
        "steps": 2.0,
        "metric.loss": 0.25,
    }
    assert all(array.dtype == np.float64 for array in update.values())
    assert (weight, type(weight)) == (12, int)
    assert contribution(reply(**{"num-examples": 12.0}), BASE, PLAN, MessageType.TRAIN)[1] == 12


def test_metrics_alone():
    update, weight = contribution(reply({}), BASE, PLAN, MessageType.EVALUATE)
    assert (list(update), weight) == (["metric.loss"], 12)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (reply({"w": BASE["w"]}), "'steps' is not the same"),
        (reply({**BASE, "more": BASE["w"]}), "'more' is not the same"),
        (reply({**BASE, "w": np.zeros(3, np.float32)}), "'w' is not the same"),
        (reply(loss=[0.25]), "no metric 'loss' that is a single number"),
        (reply(**{"num-examples": 11.5}), "allows whole numbers from 1 to 20"),
        (reply(**{"num-examples": float("inf")}), "allows whole numbers"),
        (reply(**{"num-examples": float("nan")}), "allows whole numbers"),
        (reply(**{"num-examples": 0}), "allows whole numbers"),
        (reply(**{"num-examples": 21}), "allows whole numbers"),
        (RecordDict({"metrics": MetricRecord({"num-examples": 1})}), "0 ArrayRecords"),
    ],
)
def test_what_does_not_fit(wrong, says):
    with pytest.raises(ParameterError, match=says):
        contribution(wrong, BASE, PLAN, MessageType.TRAIN)


@pytest.mark.parametrize("kind", [MessageType.TRAIN, MessageType.EVALUATE, MessageType.QUERY, "train.other"])
def test_only_training_and_evaluation_are_rounds(kind):
    message = Message(RecordDict(), dst_node_id=1, message_type=kind)
    ask(message.content, 4)
    if kind in (MessageType.TRAIN, MessageType.EVALUATE):
        assert asked(message, PLAN) == 4
        assert len(message.content) == 0
    else:
        with pytest.raises(ParameterError, match="asks for no secure round"):
            asked(message, PLAN)
