"""Flower's differential privacy with secure rounds: nodes clip beneath the mod, the wrapper goes around ours."""

import numpy as np
import pytest
from flwr.app import MessageType
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod
from flwr.serverapp.strategy import DifferentialPrivacyClientSideFixedClipping, FedAvg

from tests.pipelines.flower.app import bound, training
from tests.pipelines.flower.stage import Room, stage

NODES, NORM = 4, 0.1


def on_training(mod):
    """Flower's mods of this kind know training only."""

    def only(message, context, call_next):
        trains = message.metadata.message_type == MessageType.TRAIN
        return mod(message, context, call_next) if trains else call_next(message, context)

    return only


def norm(result):
    """Of all arrays together; training starts from zero."""
    return float(np.sqrt(sum(np.square(array.numpy()).sum() for array in result.arrays.values())))


def quantisation():
    """The most that rounding adds to that norm."""
    examples = sum(len(training.data(part, NODES)[1]) for part in range(NODES))
    return np.sqrt(training.FEATURES + 1) * bound("coef", NODES, examples)


@pytest.mark.parametrize("deviation", [0.0, 0.2])
def test_nodes_clip_and_the_wrapper_adds_noise(tmp_path, deviation):
    with stage(tmp_path, NODES) as hub:
        mods = [hub.mod(), on_training(fixedclipping_mod)]
        secure = hub.secure(FedAvg(min_train_nodes=NODES, fraction_evaluate=0.0))
        strategy = DifferentialPrivacyClientSideFixedClipping(secure, deviation * NODES / NORM, NORM, NODES)
        result = strategy.start(Room(training.client(mods), NODES), training.initial(), num_rounds=1)
    if deviation:
        assert norm(result) > NORM + quantisation()
    else:
        assert 0.5 * NORM < norm(result) <= NORM + quantisation()


def test_nodes_clip_and_add_their_own_noise(tmp_path):
    with stage(tmp_path, NODES) as hub:
        local = on_training(LocalDpMod(NORM, sensitivity=1e-9, epsilon=1.0, delta=1e-5))
        room = Room(training.client([hub.mod(), local]), NODES)
        result = hub.secure(FedAvg()).start(room, training.initial(), num_rounds=1)
    assert 0.5 * NORM < norm(result) <= NORM + quantisation()
    assert set(result.evaluate_metrics_clientapp[1]) == {"loss", "auc"}
