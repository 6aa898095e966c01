"""The shared model: how it moves, and what its file says."""

from types import SimpleNamespace

import numpy as np
import pytest

from aggregator.arrays import write_arrays
from aggregator.errors import ParameterError, StaleModel
from clients.adapters.contract import Combine
from clients.training import GlobalModel

TENSORS = {"w": np.array([1.0, 2.0], np.float32), "b": np.zeros(())}


def closed(model, number=7, **mean):
    """A round's result over this model."""
    terms = SimpleNamespace(model_hash=model.digest)
    return SimpleNamespace(task="lungs", round=number, terms=terms, mean=mean, total_weight=4)


def test_a_round_moves_it_and_is_counted():
    model = GlobalModel(TENSORS)
    result = closed(model, w=np.array([0.5, -1.0]), b=np.array(3.0), **{"metric.loss": np.array(0.25)})
    after = model.advanced(result)
    assert (after.round, after.closed) == (7, 1)
    assert np.array_equal(after.tensors["w"], np.float32([1.5, 1.0]))
    assert after.digest != model.digest
    added = GlobalModel(TENSORS, Combine.SUM).advanced(closed(model, w=np.array([0.5, -1.0]), b=np.array(3.0)))
    assert np.array_equal(added.tensors["w"], np.float32([3.0, -2.0]))
    with pytest.raises(StaleModel, match="round 7 of lungs started from another model"):
        after.advanced(result)


def test_a_file_gives_the_same_model_and_numpy_reads_it_too(tmp_path):
    path = tmp_path / "model.npz"
    model = GlobalModel(TENSORS, Combine.SUM, 12, 3, converged=True)
    model.save(path)
    found = GlobalModel.load(path)
    assert (found.combine, found.round, found.closed, found.converged) == (Combine.SUM, 12, 3, True)
    assert found.digest == model.digest
    with np.load(path) as arrays:
        assert sorted(arrays) == ["b", "w"]
    assert not list(tmp_path.glob("*.new"))


def test_other_files_are_not_gone_on_with(tmp_path):
    path, model = tmp_path / "model.npz", GlobalModel(TENSORS)
    assert model.found_at(path) is model
    write_arrays(path, TENSORS)
    with pytest.raises(ParameterError, match="doesn't say which rounds made it"):
        model.found_at(path)
    for other in (GlobalModel({"w": TENSORS["w"]}), GlobalModel(TENSORS, Combine.SUM)):
        other.save(path)
        with pytest.raises(ParameterError, match="holds another kind of model"):
            model.found_at(path)


def test_a_round_that_changes_nothing_is_noticed():
    still = closed(GlobalModel(TENSORS), w=np.zeros(2), b=np.zeros(()))
    assert GlobalModel(TENSORS).advanced(still).converged
    assert not GlobalModel(TENSORS).advanced(closed(GlobalModel(TENSORS), w=np.ones(2), b=np.zeros(()))).converged
