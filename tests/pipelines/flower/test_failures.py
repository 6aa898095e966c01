"""What goes wrong: nodes that die, apps that raise, too few nodes, no server, a run twice; what Flower makes of it."""

import re
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Context, MessageType
from flwr.serverapp.strategy import FedAvg

from aggregator.errors import Disconnected
from clients.adapters.flower import SecureMod
from tests.pipelines.flower.app import bound, in_the_clear, secure_room, training
from tests.pipelines.flower.stage import PLAN, Room, stage

NODES = 4
FLOAT32 = 2.0**-22


def failing(hub, nodes, fails):
    """Nodes whose app raises where `fails(server round, partition)`, beneath the mod."""

    def mod(message, context: Context, call_next):
        part = context.node_config["partition-id"]
        if message.metadata.message_type == MessageType.TRAIN and fails(
            message.content["config"]["server-round"], part
        ):
            raise RuntimeError("no such column")
        return call_next(message, context)

    return Room(training.client([hub.mod(), mod]), nodes)


def started(room, strategy, rounds):
    return strategy.start(room, training.initial(), num_rounds=rounds)


def test_a_node_that_dies_is_left_out(tmp_path):
    with stage(tmp_path, NODES) as hub:
        room = secure_room(hub, NODES, absent=frozenset({(1, MessageType.TRAIN, 2)}))
        result = started(room, hub.secure(FedAvg(fraction_evaluate=0.0), wait_s=3.0), 1)
    survivors = [message for message in room.sent if message.metadata.dst_node_id != 3]
    mean, total = in_the_clear(survivors, NODES)
    coef = result.arrays["coef"].numpy()
    assert np.abs(coef - mean["coef"]).max() <= bound("coef", 3, total) + FLOAT32
    assert np.abs(result.train_metrics_clientapp[1]["train_loss"] - mean["train_loss"]) <= bound("train_loss", 3, total)


def test_nobody_waits_for_a_node_whose_app_raised(tmp_path):
    with stage(tmp_path, NODES) as hub:
        room = failing(hub, NODES, lambda number, part: part == 1)
        result = started(room, hub.secure(FedAvg(fraction_evaluate=0.0)), 1)  # which would wait for an hour
    [error] = [reply for reply in room.replies if reply.has_error()]
    assert error.error.reason == "RuntimeError: no such column"
    mean, total = in_the_clear([m for m in room.sent if m.metadata.dst_node_id != 2], NODES)
    assert np.abs(result.arrays["coef"].numpy() - mean["coef"]).max() <= bound("coef", 3, total) + FLOAT32


def test_a_round_without_a_sum_keeps_the_model_and_training_goes_on(tmp_path, caplog):
    with stage(tmp_path, NODES) as hub:
        room = failing(hub, NODES, lambda number, part: number == 1 and part < 2)
        result = started(room, hub.secure(FedAvg(fraction_evaluate=0.0)), 2)
    first, second = room.sent[:NODES], room.sent[NODES:]
    assert all(message.content["arrays"] == training.initial() for message in [*first, *second])
    assert list(result.train_metrics_clientapp) == [2]
    assert re.search(r"no sum of hearts\.train\.4: round \d+: advertise keys: \d clients, need 3", caplog.text)
    mean, total = in_the_clear(second, NODES)
    assert np.abs(result.arrays["coef"].numpy() - mean["coef"]).max() <= bound("coef", NODES, total) + FLOAT32


def test_a_server_that_cannot_be_reached_ends_the_run(tmp_path):
    with stage(tmp_path, NODES) as hub:
        strategy = hub.secure(FedAvg())
    with pytest.raises(Disconnected):
        started(secure_room(hub, NODES), strategy, 1)


def test_nodes_that_cannot_reach_the_server_are_failures_with_a_sentence(tmp_path):
    with stage(tmp_path, NODES) as hub:
        mod = SecureMod(PLAN, "127.0.0.1:1", hub.identity, patience_s=0.0)
        room = Room(training.client([mod]), NODES)
        result = started(room, hub.secure(FedAvg(fraction_evaluate=0.0)), 1)
    assert len(room.replies) == NODES
    assert all("Disconnected: 127.0.0.1:1" in reply.error.reason for reply in room.replies)
    assert len(result.arrays) == 0


def test_the_same_run_again_is_refused_under_the_same_name(tmp_path, caplog):
    with stage(tmp_path, NODES) as hub:
        for plan, aggregated in ((PLAN, [1]), (PLAN, []), (replace(PLAN, task="hearts-2"), [1])):
            result = started(secure_room(hub, NODES, plan), hub.secure(FedAvg(fraction_evaluate=0.0), plan), 1)
            assert list(result.train_metrics_clientapp) == aggregated


def test_an_update_that_does_not_fit_is_described_only_at_home(tmp_path, caplog):
    def mod(message, context, call_next):
        reply = call_next(message, context)
        if context.node_config["partition-id"] == 0:
            reply.content["metrics"]["train_loss"] = float("nan")
        return reply

    with stage(tmp_path, NODES) as hub:
        room = Room(training.client([hub.mod(), mod]), NODES)
        result = started(room, hub.secure(FedAvg(fraction_evaluate=0.0)), 1)
    [error] = [reply.error.reason for reply in room.replies if reply.has_error()]
    assert error == "ParameterError: the node's own update does not fit the round; its log says why"
    assert "'metric.train_loss' is not finite" in caplog.text
    assert list(result.train_metrics_clientapp) == [1]
