"""One site: a process that takes part in every round of every task, until it is killed, and then again."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Final

import numpy as np

from aggregator.crypto.identity import Identity
from aggregator.errors import Disconnected, Equivocation, ParameterError, RoundAborted, SangamError
from aggregator.local import child
from aggregator.protocol.participant import Safeguards, Site
from clients.connection import JOURNAL_FILE
from clients.credentials import Credentials
from clients.journal import Journal
from clients.session import Session
from clients.site import joined
from clients.transport import GrpcChannel, GrpcTransport
from tests.chaos.evidence import Evidence
from tests.chaos.witness import Witness
from tests.chaos.work import CLIP, PATIENCE_S, WEIGHT_MAX, Study

AGAIN: Final = "a run of chaos trains nothing"
OF_A_ROUND: Final = (RoundAborted, Equivocation, ParameterError)  # the session goes on


@dataclass(frozen=True, slots=True)
class Invitation:
    """All that a site is told when its process starts.

    Args:
        name: the site's.
        directory: its identity, journal and log.
        address: host:port of the aggregator.
        studies: the tasks.
        evidence: where to write down what leaves.
        seed: of what it repeats, and of its updates.
    """

    name: str
    directory: Path
    address: str
    studies: tuple[Study, ...]
    evidence: Path
    seed: str


def main(invitation: Invitation, pipe: Connection) -> None:
    """Take part until the starter hangs up. The target of its process."""
    child.settle(invitation.directory)
    asyncio.run(_attend(invitation, pipe))


async def _attend(invitation: Invitation, pipe: Connection) -> None:
    child.Starter(pipe)  # which ends this process when the starter hangs up
    who = Identity.load(invitation.directory)
    channel = GrpcChannel(invitation.address, who)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(channel.close)
        journal = stack.enter_context(Journal(invitation.directory / JOURNAL_FILE))
        credentials = Credentials(Site(who.certificate, who.authority, who.signing_key, Safeguards()))
        async with asyncio.TaskGroup() as tasks:
            for study in invitation.studies:
                part = _Part(invitation, study, GrpcTransport(lambda: channel), credentials, journal)
                tasks.create_task(part.run())


class _Part:
    """This site in one task."""

    def __init__(
        self, invitation: Invitation, study: Study, transport: GrpcTransport, credentials: Credentials, journal: Journal
    ) -> None:
        self._name = invitation.name
        self._evidence = Evidence(invitation.evidence)
        self._study = study
        draws = Random(f"{invitation.seed}/{study.name}")
        self._values = np.random.default_rng(draws.getrandbits(64))
        self._witness = Witness(transport, self._evidence, study.name, invitation.name, draws)
        self._credentials = credentials
        self._journal = journal

    async def run(self) -> None:
        """Join, and again when the line has died."""
        while True:
            try:
                opening = joined(
                    self._witness, self._credentials, self._journal, task=self._study.name, patience_s=PATIENCE_S
                )
                async with opening as session:
                    while True:
                        await self._contribute(session)
            except SangamError as error:
                self._complain(error)

    async def _contribute(self, session: Session) -> None:
        update = {"x": self._values.uniform(-CLIP, CLIP, self._study.entries).astype(np.float32)}
        weight = int(self._values.integers(1, WEIGHT_MAX + 1))
        try:
            result = await session.contribute(update, weight=weight, again=AGAIN, observer=self._witness)
        except OF_A_ROUND as error:
            self._complain(error)
            return
        assert result is not None
        self._evidence.give(self._study.name, result.round, self._name, result.words)

    def _complain(self, error: SangamError) -> None:
        if not isinstance(error, Disconnected):
            self._evidence.complain(self._name, f"{type(error).__name__}: {error}")
