"""What a pipeline of the demo is: one training over secure rounds, the same in the open, and how good a model is."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from aggregator.local.trial import plain, try_out
from clients.adapters import Adapter
from clients.training import OperatorWatch, Trained

M = TypeVar("M")
VALUE_BITS: Final = 24  # small models: a few bytes more buy a mean that is exact to seven digits


@dataclass(frozen=True, slots=True)
class Pipeline(Generic[M]):
    """One training, federated and otherwise.

    Args:
        about: the data and the model, a sentence.
        sites: their names.
        rounds: how many there will be.
        federated: trains over secure rounds, and tells how it goes.
        twin: the same training without them; `twin_is` says in what it is the same.
        pooled: the model that all records in one place give.
        score: how good a model is, on records that no site trained on or, where that is said, on all.
        scored: what the score is.
        within: how far the federated score may be from the twin's.
    """

    about: str
    sites: tuple[str, ...]
    rounds: int
    federated: Callable[[OperatorWatch], Coroutine[Any, Any, M]] = field(repr=False)
    twin: Callable[[], M] = field(repr=False)
    pooled: Callable[[], M] = field(repr=False)
    score: Callable[[M], float] = field(repr=False)
    scored: str
    within: float = 0.005
    twin_is: str = "plain averaging"


@dataclass(frozen=True, slots=True)
class Averaging(Generic[M]):
    """A training by averages: what a pipeline's `federated` and `twin` share.

    Args:
        adapter: for the models' kind.
        new: the first model, the same each time.
        trains: makes each site's training, anew with each call, since trainings may count their rounds.
        rounds, clip, weight_max, metrics: as `clients.training.Experiment` has them.
    """

    adapter: Adapter[M]
    new: Callable[[], M] = field(repr=False)
    trains: Callable[[], Sequence[Callable[[M], Trained[M]]]] = field(repr=False)
    rounds: int
    clip: float
    weight_max: int
    metrics: Mapping[str, float]

    async def federated(self, watch: OperatorWatch) -> M:
        """Over secure rounds; the first site's model."""
        models = await try_out(
            self.adapter,
            self.new,
            self.trains(),
            rounds=self.rounds,
            clip=self.clip,
            weight_max=self.weight_max,
            metrics=self.metrics,
            watch=watch,
            value_bits=VALUE_BITS,
        )
        return models[0]

    def plain(self) -> M:
        """In the open."""
        return plain(self.adapter, self.new, self.trains(), rounds=self.rounds)
