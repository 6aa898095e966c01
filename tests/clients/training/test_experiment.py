"""An experiment's file: what it gives, and one sentence for what is wrong with it."""

import numpy as np
import pytest

from aggregator.arrays import write_arrays
from aggregator.errors import ParameterError, StorageError
from aggregator.protocol.parameters import Mode
from clients.training import Experiment

WHOLE = """
task = "lungs"
model = "first.npz"
rounds = 20
clip = 0.5
weight_max = 600
minimum_cohort = 3
mode = "lattice"
enough = 5

[clips]
"layer.weight" = 0.1

[metrics]
loss = 10.0

[deadlines]
share_keys_s = 30
"""


def stated(tmp_path, text=WHOLE):
    write_arrays(tmp_path / "first.npz", {"layer.weight": np.zeros((2, 3), np.float32), "layer.bias": np.zeros(2)})
    (tmp_path / "experiment.toml").write_text(text)
    return Experiment.load(tmp_path / "experiment.toml")


def test_a_file_says_what_travels_and_when(tmp_path):
    found = stated(tmp_path)
    parameters = found.parameters(found.first())
    layout = [(tensor.name, tensor.shape, tensor.clip) for tensor in parameters.tensors]
    assert layout == [("layer.weight", (2, 3), 0.1), ("layer.bias", (2,), 0.0), ("metric.loss", (), 10.0)]
    assert (parameters.mode, parameters.clip, parameters.weight_max) == (Mode.LATTICE, 0.5, 600)
    assert (found.opening.enough, found.retention.results) == (5, 3)
    assert (found.waits(parameters).share_keys_s, found.waits(parameters).unmasking_s) == (30, 120)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rounds = 20", "rounds = 0", "rounds: Input should be greater than or equal to 1"),
        ("rounds = 20", "round = 20", "round"),
        ("rounds = 20", "rounds 20", "is not TOML"),
        ("clip = 0.5", "clip = -1", "clip: Input should be greater than 0"),
        ('mode = "lattice"', 'mode = "open"', "mode: Input should be 'auto', 'pairwise', 'lattice' or 'homomorphic'"),
        ("loss = 10.0", "loss = 0", "metrics.loss: Input should be greater than 0"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, old, new, said):
    with pytest.raises(ParameterError, match=f"experiment.toml.*{said}"):
        stated(tmp_path, WHOLE.replace(old, new))


def test_what_does_not_fit_the_model_is_refused_before_any_round(tmp_path):
    found = stated(tmp_path, WHOLE.replace("layer.weight", "layer.wait"))
    with pytest.raises(ParameterError, match=r"a clip for 'layer.wait': the model has no such tensor"):
        found.parameters(found.first())
    found = stated(tmp_path, WHOLE.replace("share_keys_s", "sharing_s"))
    with pytest.raises(ParameterError, match="deadlines: there is no 'sharing_s'"):
        found.waits(found.parameters(found.first()))
    write_arrays(tmp_path / "first.npz", {"layer": np.zeros(3, np.int64)})
    with pytest.raises(ParameterError, match="tensor 'layer' is of int64: a model is trained in floating point"):
        found.first()
    (tmp_path / "first.npz").unlink()
    with pytest.raises(StorageError, match=r"first.npz"):
        found.first()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(StorageError, match=r"cannot read .*none.toml"):
        Experiment.load(tmp_path / "none.toml")
