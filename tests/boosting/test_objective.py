"""Gradients beside the calculus: differences of the loss, in float64."""

import numpy as np
import pytest

from clients.boosting.objective import gradients, margin, transformed
from clients.boosting.settings import Objective

MARGINS = np.linspace(-12, 12, 49).astype(np.float32)


def loss(objective: Objective, margins: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if objective is Objective.SQUARED_ERROR:
        return (margins - labels) ** 2 / 2
    return np.logaddexp(0, margins) - labels * margins


@pytest.mark.parametrize("objective", list(Objective))
@pytest.mark.parametrize("label", [0, 1])
def test_derivatives(objective, label):
    labels, wide = np.full_like(MARGINS, label), MARGINS.astype(np.float64)
    first, second = gradients(objective, MARGINS, labels)
    assert (first.dtype, second.dtype) == (np.float32, np.float32)
    step = 1e-4
    below, here, above = (loss(objective, wide + shift, labels) for shift in (-step, 0, step))
    assert np.abs(first - (above - below) / (2 * step)).max() < 1e-6
    assert np.abs(second - (above - 2 * here + below) / step**2).max() < 1e-5
    assert (second > 0).all()


def test_extreme_margins_stay_finite():
    extreme = np.array([-1e30, -200, 200, 1e30], np.float32)
    first, second = gradients(Objective.LOGISTIC, extreme, np.zeros(4, np.float32))
    assert np.isfinite(first).all()
    assert (second >= 1e-16).all()


@pytest.mark.parametrize("probability", [0.01, 0.5, 0.627])
def test_the_margin_of_a_probability(probability):
    at = np.array([margin(Objective.LOGISTIC, probability)])
    assert transformed(Objective.LOGISTIC, at)[0] == pytest.approx(probability, rel=1e-6)
    assert margin(Objective.SQUARED_ERROR, 152.5) == 152.5


def test_certainty_has_a_finite_margin():
    assert np.isfinite([margin(Objective.LOGISTIC, edge) for edge in (0.0, 1.0)]).all()
