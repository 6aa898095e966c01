"""A training at the operator: an experiment, and the directory that it is kept in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aggregator.errors import Cancelled
from aggregator.files import make_directory
from clients.operator import Operator
from clients.training.conducting import OperatorWatch, conduct
from clients.training.course import Course
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

    async def conduct(self, operator: Operator, watch: OperatorWatch | None = None) -> GlobalModel:
        """Create the task unless it is there, and run rounds until as many have closed as the experiment asks for.

        A training that is over gives its model again. Run by the operator.

        Raises:
            Cancelled: the task was ended before its time.
            RoundAborted: too many rounds in a row have failed; call it again to go on.
            SangamError: as `create` and `conducting.conduct`.
        """
        experiment = self.experiment
        make_directory(self.directory)
        shared = experiment.first().found_at(self.model_file)
        if experiment.is_over_with(shared):
            return shared
        await self.create(operator)
        course = Course[GlobalModel](
            experiment.task,
            experiment.parameters(experiment.first()),
            advance=GlobalModel.advanced,
            keep=lambda model: model.save(self.model_file),
            is_over=experiment.is_over_with,
        )
        try:
            shared = await conduct(
                operator, course, shared, self.history(), failures_max=experiment.failures_max, watch=watch
            )
        except Cancelled as error:
            raise Cancelled(
                f"{error}; a training goes on under another task, with {self.model_file.name} as its first model"
            ) from None
        if not experiment.keep_open:
            await operator.cancel_task(experiment.task)
        return shared
