"""The slow twin of split finding: one candidate after the other, as XGBoost 3.2 walks its histogram, in plain Python.

A float32 is a double that went through four bytes; sums are doubles.
"""

import math
import struct
from dataclasses import dataclass


def f32(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


@dataclass
class Best:
    """SplitEntry: what has been found so far."""

    gain: float = 0.0
    feature: int = 0
    first_right: int = 0
    default_left: bool = False
    left: tuple[float, float] = (0.0, 0.0)
    right: tuple[float, float] = (0.0, 0.0)

    def update(self, other: "Best") -> None:
        if math.isinf(other.gain):
            return
        better = other.gain > self.gain if self.feature <= other.feature else not self.gain > other.gain
        if better:
            self.__dict__.update(other.__dict__)


@dataclass
class Rule:
    reg_lambda: float = 1.0
    reg_alpha: float = 0.0
    min_child_weight: float = 1.0
    gamma: float = 0.0

    def threshold(self, g: float) -> float:
        alpha = f32(self.reg_alpha)
        if g > alpha:
            return g - alpha
        return g + alpha if g < -alpha else 0.0

    def score(self, g: float, h: float) -> float:
        if h <= 0.0:
            return 0.0
        above, below = f32(self.threshold(g) * self.threshold(g)), f32(h + f32(self.reg_lambda))
        return f32(above / below)

    def gain(self, left: tuple[float, float], right: tuple[float, float], whole: tuple[float, float]) -> float:
        return f32(f32(self.score(*left) + self.score(*right)) - self.score(*whole))

    def allows(self, left: tuple[float, float], right: tuple[float, float]) -> bool:
        return left[1] >= f32(self.min_child_weight) and right[1] >= f32(self.min_child_weight)

    def weight(self, g: float, h: float) -> float:
        if h < f32(self.min_child_weight) or h <= 0.0:
            return 0.0
        return f32(-self.threshold(g) / (h + f32(self.reg_lambda)))


def best_split(histogram: list[list[tuple[float, float]]], whole: tuple[float, float], rule: Rule) -> Best | None:
    """`histogram[feature][bin]` without missing values; `whole` with them."""
    best = Best()
    for feature, bins in enumerate(histogram):
        g = h = 0.0
        forward = Best()
        for at, (more_g, more_h) in enumerate(bins):
            g, h = g + more_g, h + more_h
            rest = (whole[0] - g, whole[1] - h)
            if rule.allows((g, h), rest):
                forward.update(Best(rule.gain((g, h), rest, whole), feature, at + 1, False, (g, h), rest))
        best.update(forward)
        if (g, h) == whole:
            continue
        g = h = 0.0
        backward = Best()
        for at in reversed(range(len(bins))):
            g, h = g + bins[at][0], h + bins[at][1]
            rest = (whole[0] - g, whole[1] - h)
            if rule.allows((g, h), rest):
                backward.update(Best(rule.gain(rest, (g, h), whole), feature, at, True, rest, (g, h)))
        best.update(backward)
    worth = best.gain > f32(1e-6) and best.gain >= f32(rule.gamma) and best.left[1] != 0 and best.right[1] != 0
    return best if worth else None
