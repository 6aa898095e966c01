"""Losses: gradient and hessian of each record, in float32 as XGBoost has them, and where all predictions start.

Source: XGBoost 3.2, src/objective/regression_loss.h and src/common/math.h.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from clients.boosting.settings import Objective

Floats32: TypeAlias = npt.NDArray[np.float32]

PROBABILITY_LEAST = np.float32(1e-6)
HESSIAN_LEAST = np.float32(1e-16)
LARGEST_EXPONENT = np.float32(88.7)
ONE = np.float32(1.0)


def gradients(objective: Objective, margins: Floats32, labels: Floats32) -> tuple[Floats32, Floats32]:
    """First and second derivative of each record's loss by its margin, shape (n,)."""
    predictions = transformed(objective, margins)
    first = predictions - labels
    if objective is Objective.SQUARED_ERROR:
        return first, np.ones_like(first)
    return first, np.maximum(predictions * (ONE - predictions), HESSIAN_LEAST)


def transformed(objective: Objective, margins: Floats32) -> Floats32:
    """Predictions of margins: probabilities, or the margins themselves."""
    if objective is Objective.SQUARED_ERROR:
        return margins
    return ONE / (_exp(np.minimum(-margins, LARGEST_EXPONENT)) + ONE)


def margin(objective: Objective, base_score: float) -> np.float32:
    """The margin of a base score."""
    score = np.float32(base_score)
    if objective is Objective.SQUARED_ERROR:
        return score
    score = min(max(score, PROBABILITY_LEAST), ONE - PROBABILITY_LEAST)
    odds = ONE / score - ONE
    return np.float32(-np.log(np.float64(odds)))


def _exp(values: Floats32) -> Floats32:
    """Correctly rounded for all but one in millions, as the C library's; NumPy's own float32 is 2 ulp off."""
    return np.exp(values.astype(np.float64)).astype(np.float32)
