"""A whole federation in one process, to try things out: a real server on loopback, real identities, nothing kept.

async with federation(5) as here:
    models = await here.train(experiment, adapter, [(model, train), ...])
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from aggregator.config import ServerConfig
from aggregator.local import consortium
from aggregator.local.consortium import HOST, Consortium
from aggregator.local.tolerance import minimum_cohort
from aggregator.protocol.participant import Safeguards
from aggregator.service.app import serve
from clients.adapters import Adapter
from clients.connection import connect
from clients.operator import Operator, operate
from clients.session import Session
from clients.training import Experiment, OperatorWatch, Trained, Training, learn

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Federation:
    """Where the server is, and everybody's directory."""

    address: str
    members: Consortium

    def operator(self) -> AbstractAsyncContextManager[Operator]:
        """The operator's session."""
        return operate(self.address, self.members.operator)

    def site(self, index: int, task: str = "") -> AbstractAsyncContextManager[Session]:
        """One site's session; of two sites, two are enough to try things out."""
        safeguards = Safeguards(minimum_cohort(len(self.members.sites)))
        return connect(self.address, self.members.site(index), task=task, safeguards=safeguards)

    async def train(
        self,
        experiment: Experiment,
        adapter: Adapter[M],
        sites: Sequence[tuple[M, Callable[[M], Trained[M]]]],
        watch: OperatorWatch | None = None,
    ) -> list[M]:
        """Conduct a training at the operator and learn at each site, all at once.

        Args:
            experiment: what is trained.
            adapter: for the models' kind.
            sites: the first model and the training of each, in the roster's order.
            watch: is told how it goes.

        Returns:
            Each site's model.

        Raises:
            SangamError: as `Training.conduct` and `learn`.
        """

        async def learned(index: int) -> M:
            model, train = sites[index]
            async with self.site(index, experiment.task) as session:
                return await learn(session, adapter, model, train, experiment)

        async with self.operator() as operator, asyncio.TaskGroup() as group:
            training = Training(experiment, self.members.directory / experiment.task)
            await training.create(operator)
            learning = [group.create_task(learned(index)) for index in range(len(sites))]
            await training.conduct(operator, watch)
        return [one.result() for one in learning]


@asynccontextmanager
async def federation(sites: int) -> AsyncIterator[Federation]:
    """Found a consortium of so many sites in a temporary directory, and serve it."""
    with tempfile.TemporaryDirectory(prefix="sangam-") as name:
        members = consortium.found(Path(name), consortium.site_names("site", sites), datetime.now(UTC))
        config = ServerConfig(f"{HOST}:0", members.aggregator, members.roster, staging_directory=members.directory)
        async with serve(config) as running:
            yield Federation(f"{HOST}:{running.port}", members)
