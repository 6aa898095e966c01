"""The best split of a node from its sums of gradients and hessians, by XGBoost's formula, float32 roundings and ties.

    gain = T(G_left)² / (H_left + lambda) + T(G_right)² / (H_right + lambda) - T(G)² / (H + lambda)
    T takes reg_alpha off the absolute value

Missing values go right while cuts are tried from the left and, where there are any, left while they are tried from the
right. Of equal gains the lower feature wins, then missing values to the right, then the cut that was tried first.

Source: XGBoost 3.2, src/tree/hist/evaluate_splits.h, src/tree/split_evaluator.h, src/tree/param.h.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from clients.boosting.settings import Settings

Floats: TypeAlias = npt.NDArray[np.float64]
Floats32: TypeAlias = npt.NDArray[np.float32]

GAIN_LEAST = np.float32(1e-6)


@dataclass(frozen=True, slots=True)
class Sums:
    """Of the gradients and of the hessians of a node's records."""

    gradient: float
    hessian: float


@dataclass(frozen=True, slots=True)
class Split:
    """A node's best split.

    Attributes:
        feature: its index.
        first_right: the first bin that goes right; 0 when all go there, bins when none does.
        default_left: whether missing values go left.
        gain: float32.
        left, right: the children's sums.
    """

    feature: int
    first_right: int
    default_left: bool
    gain: float
    left: Sums
    right: Sums


def best_split(gradients: Floats, hessians: Floats, settings: Settings) -> Split | None:
    """A node's best split; None where no split is worth it.

    Args:
        gradients: exact sums, shape (features, bins + 1), missing values last.
        hessians: the same of the hessians.
        settings: what a split is worth.
    """
    whole = Sums(float(gradients[0].sum()), float(hessians[0].sum()))
    g, h = gradients[:, :-1].cumsum(axis=1), hessians[:, :-1].cumsum(axis=1)
    forward = _gains(g, h, whole, settings)
    # The mirror: what is right of a cut, from the last bin down.
    g_right, h_right = g[:, -1:] - g + gradients[:, :-1], h[:, -1:] - h + hessians[:, :-1]
    incomplete = (g[:, -1] != whole.gradient) | (h[:, -1] != whole.hessian)
    backward = np.where(incomplete[:, None], _gains(g_right, h_right, whole, settings), -np.inf)[:, ::-1]
    forward_best, backward_best = forward.max(axis=1), backward.max(axis=1)
    best = np.maximum(forward_best, backward_best)
    feature = int(best.argmax())
    default_left = bool(backward_best[feature] > forward_best[feature])
    if default_left:
        first_right = h.shape[1] - 1 - int(backward[feature].argmax())
        right = Sums(float(g_right[feature, first_right]), float(h_right[feature, first_right]))
        left = _rest(whole, right)
    else:
        last_left = int(forward[feature].argmax())
        left = Sums(float(g[feature, last_left]), float(h[feature, last_left]))
        first_right, right = last_left + 1, _rest(whole, left)
    gain = best[feature]
    worth = gain > GAIN_LEAST and gain >= np.float32(settings.gamma) and left.hessian != 0 and right.hessian != 0
    return Split(feature, first_right, default_left, float(gain), left, right) if worth else None


def weight(sums: Sums, settings: Settings) -> np.float32:
    """The best step of a node whose records have these sums, before eta."""
    if sums.hessian < np.float32(settings.min_child_weight) or sums.hessian <= 0.0:
        return np.float32(0.0)
    cost = np.float64(np.float32(settings.reg_lambda))
    return np.float32(-_thresholded(np.float64(sums.gradient), settings) / (sums.hessian + cost))


@np.errstate(over="ignore", invalid="ignore")  # a gain beyond float32 is none, as in XGBoost
def _gains(g: Floats, h: Floats, whole: Sums, settings: Settings) -> Floats32:
    """The gain of each cut whose one side has these sums; -inf where a side is too light."""
    other_g, other_h = whole.gradient - g, whole.hessian - h
    least = np.float64(np.float32(settings.min_child_weight))
    before = _score(np.float64(whole.gradient), np.float64(whole.hessian), settings)
    gains = _score(g, h, settings) + _score(other_g, other_h, settings) - before
    allowed = (h >= least) & (other_h >= least) & np.isfinite(gains)
    return np.where(allowed, gains, np.float32(-np.inf)).astype(np.float32)


def _score(g: Floats | np.float64, h: Floats | np.float64, settings: Settings) -> Floats32:
    """T(G)² / (H + lambda), squared and added in float64, divided in float32."""
    least = _thresholded(g, settings)
    above = np.asarray(least * least, np.float32)
    below = np.asarray(h + np.float64(np.float32(settings.reg_lambda)), np.float32)
    score = np.zeros(np.shape(h), np.float32)
    np.divide(above, below, out=score, where=np.asarray(h) > 0.0)
    return score


def _thresholded(g: Floats | np.float64, settings: Settings) -> Floats | np.float64:
    alpha = np.float64(np.float32(settings.reg_alpha))
    return g if alpha == 0.0 else np.sign(g) * np.maximum(np.abs(g) - alpha, 0.0)


def _rest(whole: Sums, part: Sums) -> Sums:
    return Sums(whole.gradient - part.gradient, whole.hessian - part.hessian)
