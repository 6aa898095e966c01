"""The operator's part of a training: start round after round, keep the model and what has become of each round.

Whatever is killed, it goes on where it stopped: a round is started under a key made of what is on the disk, so the same
round is never started twice, and rounds that closed meanwhile are fetched.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from aggregator.errors import MessageError, OutOfTurn, RoundAborted
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind
from clients.adapters.contract import Tensors
from clients.operator import Operator
from clients.result import RoundResult
from clients.training.catching_up import missed
from clients.training.experiment import Experiment
from clients.training.global_model import GlobalModel, metrics
from clients.training.history import History, Line

MODEL_FILE: Final = "model.npz"
HISTORY_FILE: Final = "history.jsonl"
KEY_CHARACTERS: Final = 32


class Audience(Protocol):
    """Who is told how a training goes. Who derives from it overrides what it likes."""

    def begins(self, number: int, closed: int, failures: int) -> None:
        """A round has started, or is gone on with; so many have closed, and so many have failed since."""
        return

    def happened(self, event: RoundEvent) -> None:
        """Something in the round."""
        return

    def ended(self, line: Line, model: GlobalModel) -> None:
        """A round has ended, with this model."""
        return


class Silent(Audience):
    """Nobody is told."""


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

    async def conduct(self, operator: Operator, audience: Audience) -> GlobalModel:
        """Run rounds until as many have closed as the experiment asks for; the model that they made.

        Raises:
            RoundAborted: too many in a row have failed; call it again to go on.
            StaleModel: sums that are needed are kept no longer.
            SangamError: as `Operator.create_task` and `run_round`.
        """
        shared, history = await self._begun(operator, audience)
        while shared.closed < self.experiment.rounds:
            failures = history.failures
            line, result = await self._round(operator, shared, failures, audience)
            if result is not None:
                shared = shared.advanced(result)
                history.add(line)  # first: what the model lacks is fetched, what the history lacks is not
                shared.save(self.model_file)
            else:
                history.add(line)
            audience.ended(line, shared)
            if history.failures > self.experiment.failures_max:
                raise RoundAborted(
                    f"{history.failures} rounds in a row have failed, the last, {line.round}: {line.failed}"
                )
        if not self.experiment.keep_open:
            await operator.cancel_task(self.experiment.task)
        return shared

    async def _begun(self, operator: Operator, audience: Audience) -> tuple[GlobalModel, History]:
        """Create the task unless it is there, and take over what has closed without this process."""
        await self.create(operator)
        self.directory.mkdir(parents=True, exist_ok=True)
        history = self.history()
        shared = self.experiment.first().found_at(self.model_file)

        def fetch(base: Tensors) -> Awaitable[RoundResult]:
            return operator.fetch_result(self.experiment.task, base=base)

        newest = shared
        async for newest, result in missed(fetch, shared):
            line = _closed(result, 0.0)
            history.add(line)
            newest.save(self.model_file)
            audience.ended(line, newest)
        return newest, history

    async def _round(
        self, operator: Operator, shared: GlobalModel, failures: int, audience: Audience
    ) -> tuple[Line, RoundResult | None]:
        task = self.experiment.task
        number = await self._started(operator, shared, failures)
        audience.begins(number, shared.closed, failures)
        async for event in operator.watch(task, number):
            audience.happened(event)
            if event.kind == EventKind.FAILED:
                return Line(number, seconds=event.seconds, failed=event.detail), None
            if event.kind == EventKind.CLOSED:
                result = await operator.fetch_result(task, number)
                return _closed(result, event.seconds), result
        raise MessageError(f"round {number} of {task}: its events ended before the round did")

    async def _started(self, operator: Operator, shared: GlobalModel, failures: int) -> int:
        """The round that is to come next, or that runs already."""
        task = self.experiment.task
        place = f"{shared.closed}.{failures}".encode()
        key = sha256(shared.digest + place).hexdigest()[:KEY_CHARACTERS]
        try:
            return await operator.start_round(task, base=shared.tensors, key=key)
        except OutOfTurn:  # it was started so long ago that its key counts no longer, or by somebody else
            async for one in operator.rounds(task, page_size=1):
                return one.round
            raise


def _closed(result: RoundResult, seconds: float) -> Line:
    return Line(result.round, len(result.participants), result.total_weight, seconds, metrics(result))
