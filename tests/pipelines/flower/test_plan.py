"""The plan: what both sides make of it is the same, and what cannot be a plan is none."""

import numpy as np
import pytest
from flwr.app import MessageType

from aggregator.errors import ParameterError
from clients.adapters.flower import Plan

PLAN = Plan("hearts", 2.0, 300, {"loss": 10.0, "auc": 1.0}, {"auc": 1.0}, value_bits=20)
ARRAYS = {"w": np.zeros((2, 3)), "b": np.zeros(2)}


def test_names():
    assert PLAN.name(MessageType.TRAIN, 6) == "hearts.train.6"
    assert PLAN.alike == ("hearts.train.", "hearts.evaluate.")


def test_parameters():
    found = PLAN.parameters(MessageType.TRAIN, ARRAYS, 6)
    assert [(tensor.name, tensor.shape, tensor.clip) for tensor in found.tensors] == [
        ("b", (2,), 0.0),
        ("w", (2, 3), 0.0),
        ("metric.auc", (), 1.0),
        ("metric.loss", (), 10.0),
    ]
    assert (found.clip, found.clients_max, found.minimum_cohort) == (2.0, 6, 3)
    assert (found.weight_max, found.value_bits) == (300, 20)
    assert [tensor.name for tensor in PLAN.parameters(MessageType.EVALUATE, ARRAYS, 6).tensors] == ["metric.auc"]


def test_the_order_of_names_does_not_matter():
    other = Plan("hearts", 2.0, 300, {"auc": 1.0, "loss": 10.0}, {"auc": 1.0}, value_bits=20)
    turned = dict(reversed(ARRAYS.items()))
    assert other.parameters(MessageType.TRAIN, turned, 6).hash == PLAN.parameters(MessageType.TRAIN, ARRAYS, 6).hash


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"task": ""}, "needs a name"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"weight_max": 0}, "weight_max is 0"),
        ({"minimum_cohort": 1}, "is 1, allowed are 2"),
        ({"value_bits": 64}, "value_bits is 64"),
        ({"train_metrics": {"num-examples": 1.0}}, "is the weight"),
        ({"evaluate_metrics": {"num-examples": 1.0}}, "is the weight"),
        ({"evaluate_metrics": {"loss": float("nan")}}, "clip of tensor 'metric.loss'"),
    ],
)
def test_no_plan(wrong, says):
    with pytest.raises(ParameterError, match=says):
        Plan(**{"task": "hearts", "clip": 1.0, "weight_max": 10, **wrong})
