"""A Flower server that wants more than its nodes agreed to: another task, other numbers, a second sum, a bit more.

It holds an operator's identity, so it may make whatever tasks it likes; and it sends whatever messages it likes.
"""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp.strategy import FedAvg

from aggregator.errors import RoundAborted
from aggregator.wire.operator_messages import Opening
from clients.adapters.flower.records import RECORD
from clients.blocking import operate_blocking
from tests.pipelines.flower.app import app, secure_room, training
from tests.pipelines.flower.stage import BRISK, PLAN, WEIGHT_MAX, Room, stage

NODES = 4
UNFIT = "ParameterError: the node's own update does not fit the round; its log says why"
ARRAYS = {name: array.numpy() for name, array in training.initial().items()}


def messages(tag, kind=MessageType.TRAIN, nodes=NODES):
    """One for each node."""
    content = {"arrays": training.initial(), "config": ConfigRecord({"server-round": 1}), RECORD: ConfigRecord(tag)}
    return [Message(RecordDict(dict(content)), dst_node_id=node + 1, message_type=kind) for node in range(nodes)]


def reasons(replies):
    return [reply.error.reason for reply in replies if reply.has_error()]


def open_round(hub, plan, nodes=NODES, kind=MessageType.TRAIN):
    """By hand, under whatever plan."""
    name = plan.name(kind, nodes)
    opening = Opening(enough=nodes, gather_s=60.0, sample=nodes)
    with operate_blocking(hub.address, hub.consortium.operator) as operator:
        parameters = plan.parameters(kind, ARRAYS, nodes)
        operator.create_task(name, parameters, deadlines=BRISK, opening=opening, result_to_operator_only=True)
        return name, operator.start_round(name, base=ARRAYS)


def outcome(hub, task, number):
    with operate_blocking(hub.address, hub.consortium.operator) as operator:
        return operator.outcome(task, number)


@pytest.mark.parametrize(
    ("tag", "says"),
    [
        ({"nodes": 4, "task": "other"}, "asks for no secure round"),
        ({"nodes": 4, "metrics": ["age"]}, "asks for no secure round"),
        ({"nodes": 4, "weighted-by": "age"}, "asks for no secure round"),
        ({}, "asks for no secure round"),
        ({"nodes": 2}, "a round among 2 nodes, agreed are 3 to 10000"),
        ({"nodes": 10_001}, "a round among 10001 nodes"),
        ({"nodes": 4.0}, "a round among 4.0 nodes"),
        ({"nodes": True}, "a round among True nodes"),
        ({"nodes": "4"}, "a round among '4' nodes"),
    ],
)
def test_a_message_chooses_nothing_but_the_number_of_nodes(tmp_path, tag, says):
    seen = []

    def mod(message, context, call_next):
        seen.append(message)
        return call_next(message, context)

    with stage(tmp_path, NODES) as hub:
        room = Room(training.client([hub.mod(), mod]), NODES)
        found = reasons(room.send_and_receive(messages(tag)))
    assert len(found) == NODES
    assert all(says in reason for reason in found)
    assert not seen


@pytest.mark.parametrize(
    "change",
    [
        {"weight_max": 1},
        {"weight_max": 106},
        {"weight_max": 107},
        {"weight_max": WEIGHT_MAX - 1},
        {"clip": 1e-3},
        {"value_bits": 8},
        {"train_metrics": {"num-patients": 1.0}},
        {"train_metrics": {"train_loss": 0.1}},
    ],
)
def test_a_round_with_other_parameters_tells_nothing_of_the_data(tmp_path, caplog, change):
    assert {len(training.data(part, NODES)[1]) for part in range(NODES)} == {106, 107}
    with stage(tmp_path, NODES) as hub:
        task, number = open_round(hub, replace(PLAN, **change))
        replies = secure_room(hub, NODES).send_and_receive(messages({"nodes": NODES}))
        with operate_blocking(hub.address, hub.consortium.operator) as operator:
            events = "\n".join(event.detail for event in operator.watch(task, number))
    assert reasons(replies) == [UNFIT] * NODES
    assert caplog.text.count("has other parameters than were agreed on") >= NODES
    assert "does not fit the task" not in events


def test_one_bit_about_one_bound(tmp_path, caplog):
    """A node that is larger than agreed takes no part, in the words of any other misfit."""
    plan = replace(PLAN, weight_max=106)
    with stage(tmp_path, NODES) as hub:
        room = secure_room(hub, NODES, plan)
        result = hub.secure(FedAvg(fraction_evaluate=0.0), plan).start(room, training.initial(), num_rounds=1)
    assert reasons(room.replies) == [UNFIT]
    assert "107 examples: the plan allows whole numbers from 1 to 106" in caplog.text
    assert list(result.train_metrics_clientapp) == [1]


@pytest.mark.parametrize("kind", [MessageType.TRAIN, MessageType.EVALUATE])
def test_a_second_sum_over_one_model_among_fewer_nodes_is_refused(tmp_path, caplog, kind):
    """Cohorts that differ by one: the difference of the sums would be one node's update."""
    with stage(tmp_path, NODES) as hub:
        for nodes in (NODES, NODES - 1):
            task, number = open_round(hub, PLAN, nodes, kind)
            room = secure_room(hub, NODES)
            found = reasons(room.send_and_receive(messages({"nodes": nodes}, kind, nodes)))
            assert found == ([] if nodes == NODES else [UNFIT] * nodes)
            if nodes == NODES:
                assert len(outcome(hub, task, number).participants) == NODES
                continue
            with pytest.raises(RoundAborted, match="clients, need 3"):
                outcome(hub, task, number)
    assert caplog.text.count("on this very model before") >= NODES - 1


def test_a_node_that_comes_too_late_gives_up_and_lets_its_journal_go(tmp_path):
    with stage(tmp_path, NODES) as hub:
        task, number = open_round(hub, PLAN)
        with operate_blocking(hub.address, hub.consortium.operator) as operator:
            operator.abort_round(task, number, "over")
        room = Room(training.client([hub.mod(within_s=0.3)]), NODES)
        found = reasons(room.send_and_receive(messages({"nodes": NODES})))
        assert len(found) == NODES
        assert all("RoundAborted: no round that this site could be in has ended within 0.3 s" in each for each in found)
        task, number = open_round(hub, PLAN)
        assert reasons(secure_room(hub, NODES).send_and_receive(messages({"nodes": NODES}))) == []
        assert len(outcome(hub, task, number).participants) == NODES


def test_the_submitter_does_not_say_where_the_example_goes_and_as_whom(tmp_path):
    with stage(tmp_path, NODES) as hub:
        config = {"address": hub.address, "sites": str(tmp_path), "nodes": NODES}
        room = Room(app.client, NODES, run_config=config)
        found = reasons(room.send_and_receive(messages({"nodes": NODES})))
    assert len(found) == NODES
    assert all("set sangam-address and sangam-identity in the node's configuration" in reason for reason in found)


def test_a_model_that_differs_by_a_bit_is_another_model(tmp_path):
    """What once per model does not stop, as docs/flower.md says."""
    with stage(tmp_path, NODES) as hub:
        nudged = training.record(np.full((1, training.FEATURES), 2.0**-30), np.zeros(1))
        for initial in (training.initial(), nudged):
            result = hub.secure(FedAvg(fraction_evaluate=0.0)).start(secure_room(hub, NODES), initial, num_rounds=1)
            assert list(result.train_metrics_clientapp) == [1]
