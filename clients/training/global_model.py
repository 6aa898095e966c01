"""The model that all sites share, and which rounds made it; on disk an .npz file that anybody may read.

Every site and the operator compute it themselves, from the same first model and the same means, so nobody sends it
around; that they agree to the bit is checked by its hash in each round.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from aggregator.arrays import read_arrays, read_note, replace_arrays
from aggregator.errors import ParameterError, StaleModel
from aggregator.protocol.context import hash_model
from aggregator.wire.messages import Tensor
from clients.adapters.contract import METRIC, Combine, Tensors, moved
from clients.result import RoundResult


@dataclass(frozen=True, slots=True, eq=False)
class GlobalModel:
    """The model between two rounds.

    Args:
        tensors: arrays of float dtype by name.
        combine: what the sites' updates make of it.
        round: the server's number of the last round that is in it; 0 before the first.
        closed: how many rounds have made it; rounds that failed are not counted.
    """

    tensors: Tensors = field(repr=False)
    combine: Combine = Combine.MEAN
    round: int = 0
    closed: int = 0

    def __post_init__(self) -> None:
        for name, array in self.tensors.items():
            if not np.issubdtype(array.dtype, np.floating):
                raise ParameterError(f"tensor {name!r} is of {array.dtype}: a model is trained in floating point")
            if name.startswith(METRIC):
                raise ParameterError(f"tensor {name!r}: names in {METRIC!r} are for metrics")

    @property
    def base(self) -> Tensors:
        """What the next round starts from."""
        return self.tensors

    @property
    def digest(self) -> bytes:
        """What a round that starts from this model is announced with."""
        return hash_model(self.tensors)

    def layout(self, clips: Mapping[str, float], metrics: Mapping[str, float]) -> tuple[Tensor, ...]:
        """The tensors of one contribution: the model's, then one scalar for each metric.

        Args:
            clips: of single tensors of the model.
            metrics: for each metric the largest value that it can take, in absolute terms.

        Raises:
            ParameterError: a clip for a tensor that the model doesn't have.
        """
        if strangers := clips.keys() - self.tensors.keys():
            raise ParameterError(f"a clip for {min(strangers)!r}: the model has no such tensor")
        own = tuple(Tensor(name, array.shape, clips.get(name, 0.0)) for name, array in self.tensors.items())
        return own + tuple(Tensor(METRIC + name, (), most) for name, most in metrics.items())

    def advanced(self, result: RoundResult) -> "GlobalModel":
        """The model that this round has made of it.

        Raises:
            StaleModel: the round started from another model.
        """
        if result.terms.model_hash != self.digest:
            raise StaleModel(
                f"round {result.round} of {result.task} started from another model than this one, made by "
                f"{self.closed} rounds up to {self.round}"
            )
        mean = {name: result.mean[name] for name in self.tensors}
        tensors = moved(self.combine, self.tensors, mean, result.total_weight)
        return replace(self, tensors=tensors, round=result.round, closed=self.closed + 1)

    def save(self, path: Path) -> None:
        """Write it whole or not at all; StorageError when the disk refuses."""
        about = {"combine": self.combine, "round": self.round, "closed": self.closed}
        replace_arrays(path, self.tensors, json.dumps(about))

    @staticmethod
    def load(path: Path) -> "GlobalModel":
        """Read what `save` has written.

        Raises:
            StorageError: the file cannot be read.
            ParameterError: it is damaged, or something else.
        """
        tensors = read_arrays(path)
        try:
            said: dict[str, Any] = json.loads(read_note(path))
            return GlobalModel(tensors, Combine(said["combine"]), int(said["round"]), int(said["closed"]))
        except (ValueError, KeyError, TypeError):
            raise ParameterError(f"{path} is no model of a training: it doesn't say which rounds made it") from None

    def found_at(self, path: Path) -> "GlobalModel":
        """What a training that began with this model has made of it, as `path` has it; this one where no file is.

        Raises:
            StorageError, ParameterError: as `load`; or the file holds another kind of model.
        """
        if not path.exists():
            return self
        found = GlobalModel.load(path)
        kinds = [{name: (array.shape, array.dtype) for name, array in one.tensors.items()} for one in (self, found)]
        if kinds[0] != kinds[1] or self.combine is not found.combine:
            raise ParameterError(f"{path} holds another kind of model than this training's")
        return found


def metrics(result: RoundResult) -> dict[str, float]:
    """The metrics that travelled in a round: means over all records of its participants."""
    return {name.removeprefix(METRIC): float(mean) for name, mean in result.mean.items() if name.startswith(METRIC)}


def with_metrics(update: Tensors, said: Mapping[str, float]) -> Tensors:
    """An update with a site's own metrics beside it."""
    return {**update, **{METRIC + name: np.asarray(value, np.float64) for name, value in said.items()}}
