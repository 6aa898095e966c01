"""A training at the operator: an experiment, and the directory that it is kept in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clients.operator import Operator
from clients.training.conducting import Audience, Course, conduct
from clients.training.experiment import Experiment
from clients.training.global_model import GlobalModel
from clients.training.history import History

MODEL_FILE: Final = "model.npz"
HISTORY_FILE: Final = "history.jsonl"


@dataclass(frozen=True, slots=True)
class Training:
    """A training and its directory."""

    experiment: Experiment
    directory: Path

    @property
    def model_file(self) -> Path:
        """The model after the last round that closed: an .npz file, which says which rounds made it."""
        return self.directory / MODEL_FILE

    def history(self) -> History:
        """What has become of each round; errors as `History`."""
        return History(self.directory / HISTORY_FILE)

    async def create(self, operator: Operator) -> bool:
        """Create the task; True when it was there, the very same. Errors as `Operator.create_task`."""
        experiment = self.experiment
        parameters = experiment.parameters(experiment.first())
        return await operator.create_task(
            experiment.task,
            parameters,
            deadlines=experiment.waits(parameters),
            opening=experiment.opening,
            retention=experiment.retention,
        )

    async def conduct(self, operator: Operator, audience: Audience | None = None) -> GlobalModel:
        """Create the task unless it is there, and run rounds until as many have closed as the experiment asks for.

        Raises:
            SangamError: as `create` and `conducting.conduct`.
        """
        experiment = self.experiment
        await self.create(operator)
        self.directory.mkdir(parents=True, exist_ok=True)
        course = Course[GlobalModel](
            experiment.task,
            advance=GlobalModel.advanced,
            keep=lambda model: model.save(self.model_file),
            is_over=lambda model: model.closed >= experiment.rounds,
            failures_max=experiment.failures_max,
        )
        shared = experiment.first().found_at(self.model_file)
        shared = await conduct(operator, course, shared, self.history(), audience)
        if not experiment.keep_open:
            await operator.cancel_task(experiment.task)
        return shared
