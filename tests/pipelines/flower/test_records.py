"""Flower's records as tensors: what does not fit is refused at the node, by its name."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

from aggregator.errors import ParameterError
from clients.adapters.flower.records import Tag, contribution, tensors

BASE = {"w": np.array([1.0, 2.0], np.float32), "steps": np.array(7, np.int64)}
TAG = Tag("hearts.train.3", arrays=True, metrics=("loss",), weighted_by="num-examples")


def reply(arrays=None, **metrics):
    arrays = {"w": np.array([1.5, 1.0], np.float32), "steps": np.array(9, np.int64)} if arrays is None else arrays
    record = ArrayRecord({name: Array(array) for name, array in arrays.items()})
    return RecordDict({"arrays": record, "metrics": MetricRecord({"loss": 0.25, "num-examples": 12, **metrics})})


def test_arrays_travel_as_differences():
    update, weight = contribution(reply(), BASE, TAG)
    assert {name: array.tolist() for name, array in update.items()} == {
        "w": [0.5, -1.0],
        "steps": 2.0,
        "metric.loss": 0.25,
    }
    assert all(array.dtype == np.float64 for array in update.values())
    assert (weight, type(weight)) == (12, int)
    assert contribution(reply(**{"num-examples": 12.0}), BASE, TAG)[1] == 12
    assert [(t.name, t.shape, t.clip) for t in tensors(BASE, {"loss": 5.0})] == [
        ("w", (2,), 0.0),
        ("steps", (), 0.0),
        ("metric.loss", (), 5.0),
    ]


def test_metrics_alone():
    update, weight = contribution(reply({}), BASE, Tag("hearts.evaluate.3", False, ("loss",), "num-examples"))
    assert (list(update), weight) == (["metric.loss"], 12)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (reply({"w": BASE["w"]}), "'steps' is not the same"),
        (reply({**BASE, "more": BASE["w"]}), "'more' is not the same"),
        (reply({**BASE, "w": np.zeros(3, np.float32)}), "'w' is not the same"),
        (reply(loss=[0.25]), "no metric 'loss' that is a single number"),
        (reply(**{"num-examples": 11.5}), "no whole number"),
        (reply(**{"num-examples": float("inf")}), "no whole number"),
        (RecordDict({"metrics": MetricRecord({"num-examples": 1})}), "0 ArrayRecords"),
    ],
)
def test_what_does_not_fit(wrong, says):
    with pytest.raises(ParameterError, match=says):
        contribution(wrong, BASE, TAG)
