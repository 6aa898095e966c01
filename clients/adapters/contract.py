"""What an adapter does: a model's numbers as named arrays, and back. All the rest of a training is the same for all.

    before = adapter.flatten(model)
    ... the training loop, as it always was ...
    update = change(adapter.combine, before, adapter.flatten(model), records)
    result = await session.contribute(update, weight=records, base=before)
    model = adapter.unflatten(model, moved(adapter.combine, before, result.mean, result.total_weight))

`clients.training.learn` is this loop, with restarts. What leaves is the difference that training made: it is small, so
a narrow clip holds it, and its quantisation error is small with it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from aggregator.errors import ParameterError
from aggregator.wire.messages import Tensor

METRIC: Final = "metric."
"""What a tensor's name begins with when it is no part of a model, but a number about it that travels with it."""

M = TypeVar("M")
Array: TypeAlias = npt.NDArray[Any]
Tensors: TypeAlias = Mapping[str, Array]


class Combine(StrEnum):
    """What the sites' models make together."""

    MEAN = "mean"  # parameters: the mean of the sites' models, weighted by records
    SUM = "sum"  # statistics: what all sites have added; the very model that pooled records would give


class Adapter(Protocol[M]):
    """One kind of model. `flatten` gives arrays of its own, of float dtype, always under the same names."""

    @property
    def combine(self) -> Combine:
        """What the sites' models make together."""

    def flatten(self, model: M, /) -> Tensors:
        """The model's numbers by name; what must not be averaged, as counters, stays out."""

    def unflatten(self, model: M, tensors: Tensors, /) -> M:
        """The model with these numbers: the same object where its kind can be changed, else another one."""


def change(combine: Combine, before: Tensors, after: Tensors, records: int) -> dict[str, npt.NDArray[np.float64]]:
    """What a site contributes: the difference, for statistics as a mean over its records. Run by a site.

    Raises:
        ParameterError: the model has other tensors than before, or no record.
    """
    _check_same(before, after)
    if records < 1:
        raise ParameterError(f"a site trains on at least one record, not on {records}")
    divisor = records if combine is Combine.SUM else 1
    return {name: (np.float64(after[name]) - before[name]) / divisor for name in before}


def moved(combine: Combine, before: Tensors, mean: Tensors, total_weight: int) -> dict[str, Array]:
    """The next global model, in the dtypes of the one before: the same bits wherever it is computed.

    Run by every site and by the operator; `mean` and `total_weight` are the round's.

    Raises:
        ParameterError: the mean has other tensors than the model.
    """
    _check_same(before, mean)
    factor = total_weight if combine is Combine.SUM else 1
    return {name: np.asarray(array + factor * mean[name]).astype(array.dtype) for name, array in before.items()}


def layout(
    tensors: Tensors, metrics: Mapping[str, float], clips: Mapping[str, float] | None = None
) -> tuple[Tensor, ...]:
    """What one contribution is made of, for `Parameters`: the model's tensors, then one scalar for each metric.

    Args:
        tensors: of the model.
        metrics: for each metric the largest value that it can take, in absolute terms.
        clips: of single tensors of the model.

    Raises:
        ParameterError: a clip for a tensor that the model doesn't have, or a tensor with a metric's name.
    """
    own = clips or {}
    if strangers := own.keys() - tensors.keys():
        raise ParameterError(f"a clip for {min(strangers)!r}: the model has no such tensor")
    if taken := [name for name in tensors if name.startswith(METRIC)]:
        raise ParameterError(f"tensor {taken[0]!r}: names in {METRIC!r} are for metrics")
    travelling = tuple(Tensor(name, np.shape(array), own.get(name, 0.0)) for name, array in tensors.items())
    return travelling + tuple(Tensor(METRIC + name, (), most) for name, most in metrics.items())


def with_metrics(update: Tensors, said: Mapping[str, float]) -> Tensors:
    """An update with a site's own metrics beside it."""
    return {**update, **{METRIC + name: np.asarray(value, np.float64) for name, value in said.items()}}


def metrics(mean: Tensors) -> dict[str, float]:
    """The metrics that travelled in a round: means over all weights of its participants."""
    return {name.removeprefix(METRIC): float(value) for name, value in mean.items() if name.startswith(METRIC)}


def _check_same(before: Tensors, after: Tensors) -> None:
    if before.keys() != after.keys():
        raise ParameterError(f"tensor {min(before.keys() ^ after.keys())!r} is not in both models")
    for name, array in before.items():
        if np.shape(after[name]) != array.shape:
            raise ParameterError(f"tensor {name!r} was of shape {array.shape} and is of {np.shape(after[name])}")
