"""What all sites of a study agree on before they boost trees together, and the fixed point in which they add.

Numbers travel as whole steps of a power of two, so small that the sum over all sites stays below 2^50 steps. Then the
engine rounds nothing, and every site reads the same exact sum, whoever is in it and in whatever order.

    gradients, hessians   shape (slots, features, bins + 1), the last bin for missing values
"""

import json
import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Self

import numpy as np
import numpy.typing as npt

from aggregator.errors import ParameterError
from aggregator.protocol.parameters import Parameters
from aggregator.wire.messages import Tensor

SUM_BITS = 50
"""A mean of float64 times the number of sites is at most 3 roundings, 3/8 of a step, from its whole number of steps."""

SLOTS_LEAST = 4  # so that the first rounds count in at least four cells per bin
OVERSHOOT = 4.0  # residuals start below twice the largest label, and may grow for single records before they shrink
GRADIENTS, HESSIANS = "gradients", "hessians"


class Objective(StrEnum):
    """Losses, by XGBoost's names."""

    LOGISTIC = "binary:logistic"
    SQUARED_ERROR = "reg:squarederror"


@dataclass(frozen=True, slots=True)
class Settings:
    """One study. Parameters that XGBoost has, too, are called and mean what they do there, with its defaults.

    Args:
        features: their names, in the order of the columns.
        sites_max: how many sites one sum may hold.
        records_max: how many records the largest site may have. Public: it decides the fixed point.
        minimum_cohort: a round with fewer sites is aborted. By default all must be there: the histograms of one level,
            less those of the next, are those of a site that was in one round and not in the other.
        objective: the loss.
        label_max: the largest label, by absolute value; public, for the same reason. Classes are 0 and 1.
        trees: how many.
        max_depth: of a tree, 1 to 8. A round carries 2^(max_depth - 1) nodes.
        max_bin: bins of a feature, at most. A round's size grows with it: 32 to 64 are plenty for thousands of records.
        sketch_rounds: rounds of counts before the first tree, each of which narrows the cut points down.
        eta, reg_lambda, reg_alpha, gamma, min_child_weight: as in XGBoost.
        base_score: where all predictions start, a probability or a label; None for the labels' mean over all sites.

    Raises:
        ParameterError: something is out of range.
    """

    features: tuple[str, ...]
    sites_max: int
    records_max: int
    minimum_cohort: int = 0
    objective: Objective = Objective.LOGISTIC
    label_max: float = 1.0
    trees: int = 100
    max_depth: int = 6
    max_bin: int = 64
    sketch_rounds: int = 4
    eta: float = 0.3
    reg_lambda: float = 1.0
    reg_alpha: float = 0.0
    gamma: float = 0.0
    min_child_weight: float = 1.0
    base_score: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(self.features))
        object.__setattr__(self, "objective", Objective(self.objective))
        object.__setattr__(self, "minimum_cohort", self.minimum_cohort or self.sites_max)
        if not self.features or len(set(self.features)) != len(self.features):
            raise ParameterError("a study needs features, each with a name of its own")
        ranges: tuple[tuple[str, float, float], ...] = (
            ("sites_max", 2, 10_000),
            ("records_max", 1, 2**30),
            ("label_max", 1e-6 if self.objective is Objective.SQUARED_ERROR else 1.0, 1e12),
            ("trees", 1, 10_000),
            ("max_depth", 1, 8),
            ("max_bin", 2, 1_024),
            ("sketch_rounds", 1, 16),
            ("eta", 1e-6, 1.0),
            ("reg_lambda", 0.0, 1e12),
            ("reg_alpha", 0.0, 1e12),
            ("gamma", 0.0, 1e12),
            ("min_child_weight", 0.0, 1e12),
        )
        for name, least, most in ranges:
            if not least <= getattr(self, name) <= most:
                raise ParameterError(f"{name} is {getattr(self, name)}, allowed are {least:g} to {most:g}")
        self._check_base_score()
        _ = self.parameters  # which have checks of their own

    @property
    def slots(self) -> int:
        """Nodes of one level that a round carries."""
        return int(max(2 ** (self.max_depth - 1), SLOTS_LEAST))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of both tensors: (slots, features, bins + 1)."""
        return self.slots, len(self.features), self.max_bin + 1

    @property
    def cells(self) -> int:
        """How many cells of a feature one of the first rounds counts."""
        return self.slots * self.max_bin

    @property
    def gradient_max(self) -> float:
        """The largest gradient of one record, by absolute value."""
        return 1.0 if self.objective is Objective.LOGISTIC else OVERSHOOT * self.label_max

    @property
    def steps(self) -> dict[str, float]:
        """What one step of each tensor is worth, a power of two. A hessian, and a count, is at most 1 a record."""
        return {GRADIENTS: self._step(self.gradient_max), HESSIANS: self._step(1.0)}

    @property
    def parameters(self) -> Parameters:
        """How a round's sums travel: no entry is rounded, and none can be clipped.

        Raises:
            ParameterError: too long for one round, or as `Parameters`.
        """
        value_bits = 1 + (2**SUM_BITS // self.sites_max).bit_length()
        zero_point = 2 ** (value_bits - 1) - 1
        tensors = tuple(Tensor(name, self.shape, zero_point * step) for name, step in self.steps.items())
        return Parameters(
            tensors,
            clip=1.0,
            clients_max=self.sites_max,
            minimum_cohort=self.minimum_cohort,
            weight_max=1,
            value_bits=value_bits,
        )

    def to_json(self) -> str:
        """One line, the same for the same settings on every machine."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote, or a colleague by hand.

        Raises:
            ParameterError: no settings, or out of range.
        """
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise ParameterError(f"these are no settings of a study: {error}") from None

    def _step(self, bound: float) -> float:
        """The smallest power of two of which 2^50 are no less than the largest sum over all sites."""
        fraction, exponent = math.frexp(self.sites_max * self.records_max * bound)
        return math.ldexp(1.0, exponent - (fraction == 0.5) - SUM_BITS)

    def _check_base_score(self) -> None:
        score = self.base_score
        if score is None:
            return
        logistic = self.objective is Objective.LOGISTIC
        if not (0.0 < score < 1.0 if logistic else abs(score) <= self.label_max):
            raise ParameterError(f"base_score is {score}: it is a probability between 0 and 1, or a possible label")


def on_grid(values: npt.NDArray[np.float32], step: float) -> npt.NDArray[np.float64]:
    """Values rounded to whole steps; sums of them are exact."""
    return np.rint(values.astype(np.float64) / step) * step


def exact_sum(mean: npt.NDArray[np.float64], sites: int, step: float) -> npt.NDArray[np.float64]:
    """The sum that a mean over that many sites was, in whole steps; exact."""
    return np.rint(mean * sites / step) * step
