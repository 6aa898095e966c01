"""The example's app, as the tests run it, and what its replies would have been in the clear."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message

from clients.adapters.flower import Plan
from tests.pipelines.flower.stage import CLIP, EVALUATED, PLAN, TRAINED, WEIGHT_MAX, Hub, Room

EXAMPLE = Path(__file__).parents[3] / "clients/examples/flower"
sys.path.insert(0, str(EXAMPLE))

from breast_cancer import app, training  # noqa: E402, F401

STEPS = 2**15 - 1  # of 16 bits, on either side of zero


def plain_room(nodes: int) -> Room:
    """Nodes that reply in the clear."""
    return Room(training.client([]), nodes)


def secure_room(hub: Hub, nodes: int, plan: Plan = PLAN, **how: Any) -> Room:
    """Nodes with the mod."""
    return Room(training.client([hub.mod(plan)]), nodes, **how)


def in_the_clear(sent: Sequence[Message], nodes: int) -> tuple[dict[str, Any], int]:
    """The weighted mean, in float64, of what these messages' nodes reply without the mod: arrays and metrics."""
    replies = [reply.content for reply in plain_room(nodes).send_and_receive(sent)]
    weights = [reply["metrics"]["num-examples"] for reply in replies]
    total = sum(weights)

    def mean(values):
        return sum(weight * np.float64(value) for weight, value in zip(weights, values, strict=True)) / total

    found = {name: mean([r["metrics"][name] for r in replies]) for name in replies[0]["metrics"]}
    for name in replies[0].get("arrays", ()):
        found[name] = mean([reply["arrays"][name].numpy() for reply in replies])
    del found["num-examples"]
    return found, total


def bound(name: str, nodes: int, total: int) -> float:
    """By how much a mean may be off: each node rounds to a step, before the division by the total weight."""
    clip = {**TRAINED, **EVALUATED}.get(name, CLIP)
    return nodes * clip / STEPS * WEIGHT_MAX / total
