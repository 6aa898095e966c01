"""A site's own training loop, made part of a training of all sites.

    model = await learn(session, Torch(), model, train, experiment, checkpoint=Path("site/lungs.npz"))

A process that dies goes on where it stopped. A site that was away fetches what it has missed, as long as the server
keeps it; the first model, and all that comes after it, is the same at all sites to the bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from aggregator.errors import ParameterError
from aggregator.files import make_directory
from clients.adapters.contract import Adapter, Tensors, change, with_metrics
from clients.session import Session
from clients.training.course import Course
from clients.training.experiment import Experiment
from clients.training.global_model import GlobalModel
from clients.training.taking_part import Input, Nobody, Part, SiteWatch

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Trained(Generic[M]):
    """What a site's own training loop gives back.

    Args:
        model: as it is now.
        records: how many it was trained on; they weigh it, and travel masked.
        metrics: numbers about the model that came in, as means over the records; the experiment must name them.
    """

    model: M = field(repr=False)
    records: int = field(repr=False)
    metrics: Mapping[str, float] = field(default_factory=dict, repr=False)


async def learn(
    session: Session,
    adapter: Adapter[M],
    model: M,
    train: Callable[[M], Trained[M]],
    experiment: Experiment,
    *,
    checkpoint: Path | None = None,
    again: str = "",
    watch: SiteWatch | None = None,
) -> M:
    """Take part in a training until it is over, or the operator ends the task. Run by a site.

    Args:
        session: of the experiment's task.
        adapter: for this kind of model.
        model: its numbers are overwritten by the experiment's first model. Tensors that the first model does not have
            stay as this site trains them.
        train: trains on this site's records, in a thread of its own. A round that fails doesn't call it again.
        experiment: what is trained, as the operator states it.
        checkpoint: a file for the shared model, so that this process may die; by default it must not, for longer than
            the server keeps results.
        again: why this site contributes once more on the model where it stands, having answered for it in a round that
            then failed at its very end: a server that keeps such a sum to itself has two, and two sums with a site more
            or less are that site's update. By default it does not, and the training stops for it. Counts for one round.
        watch: who is told.

    Returns:
        The model with the last round in it.

    Raises:
        StaleModel: this site cannot get at the shared model by itself: the operator's model file is needed.
        ParameterError: model, records or metrics don't fit the experiment; or `again` was needed.
        Equivocation: as `Session.contribute`.
        Disconnected: the line stayed broken for longer than the session's patience.
        StorageError: the checkpoint cannot be written.
    """
    first = experiment.first()
    own = _Own(adapter, model, train, experiment)
    own.check(first)
    shared = first if checkpoint is None else first.found_at(checkpoint)
    keep = _nowhere if checkpoint is None else _checkpoint_at(checkpoint)
    course = Course[GlobalModel](
        experiment.task,
        experiment.parameters(first),
        advance=GlobalModel.advanced,
        keep=keep,
        is_over=experiment.is_over_with,
    )
    shared = await Part(session, course, own.trained, again, watch or Nobody()).take(shared)
    return own.with_shared(shared)


@dataclass
class _Own(Generic[M]):
    """A site's model, and how it is trained."""

    adapter: Adapter[M]
    model: M
    train: Callable[[M], Trained[M]]
    experiment: Experiment

    def check(self, first: GlobalModel) -> None:
        """Whether this model is of the experiment's kind. One that has no numbers yet is; it gets them by training."""
        if self.adapter.combine is not first.combine:
            raise ParameterError(
                f"the experiment combines by {first.combine}, this adapter by {self.adapter.combine}: "
                f'its file must say combine = "{self.adapter.combine}"'
            )
        if own := self.adapter.flatten(self.model):
            _check_alike(first.tensors, own, f"the first model, {self.experiment.model}")

    def trained(self, shared: GlobalModel) -> Input:
        """What training makes of the shared model, as this site contributes it."""
        trained = self.train(self.with_shared(shared))
        self.model = trained.model
        after = self.adapter.flatten(trained.model)
        _check_alike(shared.tensors, after, "the shared model")
        self._check_records(trained)
        update = change(shared.combine, shared.tensors, {name: after[name] for name in shared.tensors}, trained.records)
        return Input(with_metrics(update, trained.metrics), trained.records)

    def with_shared(self, shared: GlobalModel) -> M:
        """The model with the shared numbers; what is not shared stays as it is."""
        self.model = self.adapter.unflatten(self.model, {**self.adapter.flatten(self.model), **shared.tensors})
        return self.model

    def _check_records(self, trained: Trained[M]) -> None:
        most, named = self.experiment.weight_max, self.experiment.metrics.keys()
        if trained.records > most:
            raise ParameterError(f"trained on more records than the {most} of the experiment's weight_max")
        if trained.metrics.keys() != named:
            raise ParameterError(f"the experiment's metrics are {sorted(named)}, these are {sorted(trained.metrics)}")


def _nowhere(model: GlobalModel) -> None:
    """No checkpoint."""


def _checkpoint_at(path: Path) -> Callable[[GlobalModel], None]:
    """Writes the shared model there, beginning with the directory, so that a wrong path shows before any round.

    Raises:
        StorageError: there can be no such directory.
    """
    make_directory(path.parent)
    return lambda model: model.save(path)


def _check_alike(wanted: Tensors, own: Tensors, where: str) -> None:
    for name, array in wanted.items():
        if name not in own:
            raise ParameterError(f"{where}, has a tensor {name!r}, this site's model has not")
        if (own[name].shape, own[name].dtype) != (array.shape, array.dtype):
            raise ParameterError(
                f"tensor {name!r} is {own[name].dtype}{list(own[name].shape)} at this site, "
                f"and {array.dtype}{list(array.shape)} in {where}"
            )
