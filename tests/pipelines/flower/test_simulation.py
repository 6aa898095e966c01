"""Flower's own simulation on Ray, with fewer workers than nodes: all nodes are in a round at once all the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.pipelines.flower.app import bound, training
from tests.pipelines.flower.simulation import WORKERS
from tests.pipelines.flower.stage import stage

NODES, ROUNDS, WITHIN_S = 5, 2, 120
ROOT = Path(__file__).parents[3]


def simulated(*where):
    """What the process says last."""
    command = [sys.executable, "-m", "tests.pipelines.flower.simulation", str(NODES), str(ROUNDS), *map(str, where)]
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WITHIN_S
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"train"')]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(lines[-1])


def test_simulation(tmp_path):
    assert WORKERS < NODES
    with stage(tmp_path, NODES) as hub:
        secure = simulated(hub.address, tmp_path)
    plain = simulated()
    examples = sum(len(training.data(part, NODES)[1]) for part in range(NODES))
    assert len(secure["train"]) == len(secure["evaluate"]) == ROUNDS
    assert abs(secure["train"][0]["train_loss"] - plain["train"][0]["train_loss"]) <= bound(
        "train_loss", NODES, examples
    )
    for ours, theirs in zip(secure["evaluate"], plain["evaluate"], strict=True):
        assert abs(ours["auc"] - theirs["auc"]) <= 0.005
    for name, values in plain["model"].items():
        assert np.abs(np.subtract(secure["model"][name], values)).max() <= 2 * ROUNDS * bound(name, NODES, examples)
