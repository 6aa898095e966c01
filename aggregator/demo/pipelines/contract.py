"""What a pipeline of the demo is: sites with their own trainings, and how good a model is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from clients.adapters import Adapter
from clients.training import Trained

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Pipeline(Generic[M]):
    """One training, federated and otherwise.

    Args:
        about: the data and the model, a sentence.
        sites: their names.
        adapter: for the model's kind.
        new: the first model, the same each time.
        trains: makes each site's training, anew with each call, since trainings may count their rounds.
        pooled: the model that all records in one place give.
        score: how good a model is, on records that no site trained on or, where that is said, on all.
        scored: what the score is.
        within: how far the federated score may be from that of plain averaging.
        rounds, clip: of the training.
        weight_max: records of the largest site.
        metrics: the largest value of each.
    """

    about: str
    sites: tuple[str, ...]
    adapter: Adapter[M]
    new: Callable[[], M] = field(repr=False)
    trains: Callable[[], list[Callable[[M], Trained[M]]]] = field(repr=False)
    pooled: Callable[[], M] = field(repr=False)
    score: Callable[[M], float] = field(repr=False)
    scored: str
    within: float
    rounds: int
    clip: float
    weight_max: int
    metrics: Mapping[str, float] = field(default_factory=dict)
