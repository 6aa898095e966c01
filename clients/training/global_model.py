"""The model that all sites share, and which rounds made it; on disk an .npz file that anybody may read.

Every site and the operator compute it themselves, from the same first model and the same means, so nobody sends it
around; that they agree to the bit is checked by its hash in each round.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from aggregator.arrays import read_arrays, read_note, replace_arrays
from aggregator.errors import ParameterError, StaleModel
from aggregator.protocol.context import hash_model
from clients.adapters.contract import Combine, Tensors, moved
from clients.result import RoundResult

ABOUT: Final = ("combine", "round", "closed", "converged")
"""What a model's file says besides its arrays."""

ROUND_MAX: Final = 2**53


@dataclass(frozen=True, slots=True, eq=False)
class GlobalModel:
    """The model between two rounds.

    Args:
        tensors: arrays of float dtype by name.
        combine: what the sites' updates make of it.
        round: the server's number of the last round that is in it; 0 before the first.
        closed: how many rounds have made it; rounds that failed are not counted.
        converged: whether the last of them changed nothing. No site contributes twice on one model, so there is none
            after it.
    """

    tensors: Tensors = field(repr=False)
    combine: Combine = Combine.MEAN
    round: int = 0
    closed: int = 0
    converged: bool = False

    def __post_init__(self) -> None:
        for name, array in self.tensors.items():
            if not np.issubdtype(array.dtype, np.floating):
                raise ParameterError(f"tensor {name!r} is of {array.dtype}: a model is trained in floating point")

    @property
    def base(self) -> Tensors:
        """What the next round starts from."""
        return self.tensors

    @property
    def digest(self) -> bytes:
        """What a round that starts from this model is announced with."""
        return hash_model(self.tensors)

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
        after = replace(self, tensors=tensors, round=result.round, closed=self.closed + 1)
        return replace(after, converged=after.digest == self.digest)

    def save(self, path: Path) -> None:
        """Write it whole or not at all; StorageError when the disk refuses."""
        about = {name: getattr(self, name) for name in ABOUT}
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
            combine, number, closed, converged = (said[name] for name in ABOUT)
            if not (_is_count(number) and _is_count(closed) and type(converged) is bool):
                raise ValueError(number, closed, converged)
            return GlobalModel(tensors, Combine(combine), number, closed, converged)
        except (ValueError, KeyError, TypeError, RecursionError):
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


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < ROUND_MAX
