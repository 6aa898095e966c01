"""What a site sends and what everybody makes of the mean."""

import numpy as np
import pytest

from aggregator.errors import ParameterError
from clients.adapters.contract import Combine, change, layout, metrics, moved, with_metrics

BEFORE = {"w": np.array([1.0, -2.0], np.float32), "b": np.array(0.5)}


def test_the_mean_of_changes_makes_the_mean_of_models():
    sites = [({"w": np.float32([2, 0]), "b": np.array(1.5)}, 10), ({"w": np.float32([-1, 4]), "b": np.array(0.0)}, 30)]
    changes = [change(Combine.MEAN, BEFORE, after, records) for after, records in sites]
    mean = {name: np.average([one[name] for one in changes], axis=0, weights=[10, 30]) for name in BEFORE}
    after = moved(Combine.MEAN, BEFORE, mean, 40)
    assert np.allclose(after["w"], [(2 * 10 - 1 * 30) / 40, 4 * 30 / 40])
    assert after["b"] == (1.5 * 10 + 0 * 30) / 40
    assert (after["w"].dtype, after["b"].dtype, after["b"].shape) == (np.float32, np.float64, ())


def test_the_sum_of_what_was_added_makes_the_pooled_statistics():
    sites = [({"w": np.float32([4, 0]), "b": np.array(3.5)}, 4), ({"w": np.float32([2, -2]), "b": np.array(0.5)}, 1)]
    changes = [change(Combine.SUM, BEFORE, after, records) for after, records in sites]
    mean = {name: np.average([one[name] for one in changes], axis=0, weights=[4, 1]) for name in BEFORE}
    after = moved(Combine.SUM, BEFORE, mean, 5)
    assert np.allclose(after["w"], [1 + 3 + 1, -2 + 2 + 0])
    assert np.isclose(after["b"], 0.5 + 3 + 0)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"w": np.zeros(2)}, "'b' is not in both"),
        ({"w": np.zeros(2), "b": np.zeros(()), "c": np.zeros(1)}, "'c' is not in both"),
        ({"w": np.zeros(3), "b": np.zeros(())}, r"of shape \(2,\) and is of \(3,\)"),
    ],
)
def test_another_model_is_refused_on_both_sides(after, said):
    with pytest.raises(ParameterError, match=said):
        change(Combine.MEAN, BEFORE, after, 1)
    with pytest.raises(ParameterError, match=said):
        moved(Combine.MEAN, BEFORE, after, 1)


def test_no_record_is_no_training():
    with pytest.raises(ParameterError, match="at least one record, not on 0"):
        change(Combine.MEAN, BEFORE, BEFORE, 0)


def test_metrics_travel_as_scalars_behind_the_model():
    found = [(one.name, one.shape, one.clip) for one in layout(BEFORE, {"loss": 5.0}, {"w": 0.5})]
    assert found == [("w", (2,), 0.5), ("b", (), 0.0), ("metric.loss", (), 5.0)]
    update = with_metrics(BEFORE, {"loss": 0.25})
    assert list(update) == ["w", "b", "metric.loss"]
    assert metrics(update) == {"loss": 0.25}
    with pytest.raises(ParameterError, match="names in 'metric\\.' are for metrics"):
        layout({"metric.loss": np.zeros(1)}, {})
