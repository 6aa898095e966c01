"""Stock strategies around the example's app: with secure rounds they get the very mean that they would have made."""

import numpy as np
import pytest
from flwr.app import MessageType
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedYogi

from tests.pipelines.flower.app import bound, in_the_clear, plain_room, secure_room, training
from tests.pipelines.flower.stage import stage

NODES, ROUNDS = 4, 3
STRATEGIES = {
    "FedAvg": FedAvg,
    "FedProx": lambda: FedProx(proximal_mu=0.1),
    "FedAvgM": lambda: FedAvgM(server_momentum=0.5),
    "FedAdagrad": FedAdagrad,
    "FedAdam": FedAdam,
    "FedYogi": FedYogi,
}
FLOAT32 = 2.0**-22  # a float32 near 2 is off by at most that


class Overheard:
    """What reaches an inner strategy."""

    def __init__(self, inner):
        self.replies = {MessageType.TRAIN: [], MessageType.EVALUATE: []}
        for kind, replies in self.replies.items():
            setattr(inner, f"aggregate_{kind}", self._keeping(getattr(inner, f"aggregate_{kind}"), replies))

    @staticmethod
    def _keeping(aggregate, replies):
        def keep(server_round, received):
            received = list(received)
            replies.append(received)
            return aggregate(server_round, received)

        return keep


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_inner_strategy_gets_one_reply_with_the_mean(name, tmp_path):
    inner = STRATEGIES[name]()
    overheard = Overheard(inner)
    with stage(tmp_path, NODES) as hub:
        room = secure_room(hub, NODES)
        hub.secure(inner).start(room, training.initial(), num_rounds=ROUNDS)
    for kind, received in overheard.replies.items():
        sent = [message for message in room.sent if message.metadata.message_type == kind]
        assert len(received) == len(sent) / NODES == ROUNDS
        for number, replies in enumerate(received):
            messages = sent[number * NODES : (number + 1) * NODES]
            mean, total = in_the_clear(messages, NODES)
            assert len(replies) == 1
            content = replies[0].content
            assert content["metrics"].pop("num-examples") == total
            assert ("arrays" in content) == (kind == MessageType.TRAIN)
            arrays = {key: array.numpy() for key, array in content.get("arrays", {}).items()}
            got = {**content["metrics"], **arrays}
            assert got.keys() == mean.keys()
            for key, value in mean.items():
                assert np.abs(got[key] - value).max() <= bound(key, NODES, total) + FLOAT32, key
            base = messages[0].content["arrays"]
            assert {key: array.dtype for key, array in arrays.items()} == {key: base[key].dtype for key in arrays}


@pytest.mark.parametrize("name", STRATEGIES)
def test_training_ends_where_stock_training_ends(name, tmp_path):
    plain = STRATEGIES[name]().start(plain_room(NODES), training.initial(), num_rounds=ROUNDS)
    with stage(tmp_path, NODES) as hub:
        strategy = hub.secure(STRATEGIES[name]())
        secure = strategy.start(secure_room(hub, NODES), training.initial(), num_rounds=ROUNDS)
    evaluated = sum(len(training.data(part, NODES)[3]) for part in range(NODES))
    for number in range(1, ROUNDS + 1):
        theirs, ours = plain.evaluate_metrics_clientapp[number], secure.evaluate_metrics_clientapp[number]
        assert abs(ours["auc"] - theirs["auc"]) <= 0.005
        assert abs(ours["loss"] - theirs["loss"]) <= 0.005 * theirs["loss"] + bound("loss", NODES, evaluated)
    assert {k: (v.dtype, v.shape) for k, v in plain.arrays.items()} == {
        k: (v.dtype, v.shape) for k, v in secure.arrays.items()
    }
