"""The Flower server never sees an update: what reaches the strategy, and what a node does without a secure round."""

from dataclasses import replace

import numpy as np
from flwr.app import MessageType
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from clients.adapters.flower.records import RECORD
from tests.pipelines.flower.app import plain_room, secure_room, training
from tests.pipelines.flower.stage import PLAN, Room, stage

NODES, ROUNDS = 4, 2


def serialized(reply):
    """All that leaves a node for Flower, as bytes."""
    return b"".join(each.deflate() for each in get_all_nested_objects(reply).values())


def test_replies_are_empty(tmp_path):
    with stage(tmp_path, NODES) as hub:
        room = secure_room(hub, NODES)
        hub.secure(FedAvg()).start(room, training.initial(), num_rounds=ROUNDS)
    assert len(room.replies) == 2 * ROUNDS * NODES
    clear = plain_room(NODES).send_and_receive(room.sent[:NODES])
    for reply in room.replies:
        assert dict(reply.content) == {}
        assert len(serialized(reply)) < 300
    for reply, other in zip(clear, room.replies, strict=False):
        update = np.float32(reply.content["arrays"]["coef"].numpy()).tobytes()
        assert update in serialized(reply)  # where an update does leave, this finds it
        assert update[:16] not in serialized(other)
        assert b"num-examples" in serialized(reply)
        assert b"num-examples" not in serialized(other)


def test_the_app_sees_what_its_own_strategy_sent(tmp_path):
    seen = []

    def mod(message, context, call_next):
        seen.append(set(message.content))
        return call_next(message, context)

    with stage(tmp_path, NODES) as hub:
        room = Room(training.client([hub.mod(), mod]), NODES)
        hub.secure(FedAvg(fraction_evaluate=0.0)).start(room, training.initial(), num_rounds=1)
    assert seen == [{"arrays", "config"}] * NODES
    assert all(RECORD in message.content for message in room.sent)


def test_a_strategy_that_is_not_wrapped_gets_nothing(tmp_path):
    with stage(tmp_path, NODES) as hub:
        room = secure_room(hub, NODES)
        result = FedAvg().start(room, training.initial(), num_rounds=1)
    assert {reply.metadata.message_type for reply in room.replies} == {MessageType.TRAIN, MessageType.EVALUATE}
    assert all("asks for no secure round" in reply.error.reason for reply in room.replies)
    assert len(result.arrays) == 0


def test_without_named_metrics_nobody_evaluates(tmp_path):
    with stage(tmp_path, NODES) as hub:
        plan = replace(PLAN, train_metrics={}, evaluate_metrics={})
        room = secure_room(hub, NODES, plan)
        result = hub.secure(FedAvg(), plan).start(room, training.initial(), num_rounds=1)
    assert {message.metadata.message_type for message in room.sent} == {MessageType.TRAIN}
    assert dict(result.train_metrics_clientapp[1]) == {}
    assert set(result.arrays) == {"coef", "intercept"}
