"""One hospital: its own process, its own key, its own records. It trains, contributes, vanishes and comes back.

    starter --> hospital    how many rounds have closed: at its start, and after each
    starter <-- hospital    ready: trained on the current model, about to contribute to that round
    starter <-- hospital    Finished: has that round's result

When the starter hangs up, the process ends.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from aggregator.crypto.identity import Identity
from aggregator.demo import training
from aggregator.demo.data import Records
from aggregator.demo.plan import Absence
from aggregator.demo.training import LOCAL_STEPS, Model
from aggregator.demo.witness import Vanished, Witness, WitnessedTransport
from aggregator.errors import MessageError, NotFound, StaleModel
from aggregator.local import child
from aggregator.protocol.participant import Safeguards, Site
from clients.connection import JOURNAL_FILE, join
from clients.session import Session
from clients.transport import GrpcChannel, GrpcTransport

TASK = "breast-cancer"
RECORDS_FILE = "records.npz"
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Invitation:
    """All that a hospital is told when its process starts.

    Args:
        name: the hospital's.
        directory: its identity, records and journal.
        address: host:port of the aggregator.
        minimum_cohort: how many hospitals it insists on in a sum.
        evidence: the demo's directory for encoded and masked words.
        absences: where it will vanish.
    """

    name: str
    directory: Path
    address: str
    minimum_cohort: int
    evidence: Path
    absences: tuple[Absence, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The hospital has the result of `round`; what its messages came to, and how many entries it had to clip."""

    round: int
    sent_bytes: int
    clipped_entries: int


def main(invitation: Invitation, pipe: Connection) -> None:
    """Run one hospital until the starter hangs up. The target of its process."""
    child.settle(invitation.directory)
    asyncio.run(_attend(invitation, pipe))


async def _attend(invitation: Invitation, pipe: Connection) -> None:
    starter = child.Starter(pipe)
    hospital = Hospital(invitation, starter)
    await starter.reaches(0)
    while True:
        try:
            await hospital.visit()
        except Vanished as vanished:
            await starter.reaches(vanished.round)


class Hospital:
    """What a hospital keeps while its process lives."""

    def __init__(self, invitation: Invitation, starter: child.Starter) -> None:
        self._invitation = invitation
        self._starter = starter
        self._records = Records.load(invitation.directory / RECORDS_FILE)
        absences = {absence.round: absence for absence in invitation.absences}
        self._witness = Witness(invitation.name, invitation.evidence, absences)

    async def visit(self) -> None:
        """Connect, fetch the current model and contribute round after round, until this hospital vanishes."""
        async with self._connect() as session:
            model = await self._current(session)
            while True:
                model = await self._contribute(session, model)

    async def _contribute(self, session: Session, model: Model) -> Model:
        """One round; the model that it made."""
        number, weight = self._starter.said + 1, len(self._records)
        update = training.descend(model, self._records, LOCAL_STEPS)
        self._witness.enter(number)
        self._starter.tell(ready=number)
        try:
            result = await session.contribute(update, weight=weight, base=model, observer=self._witness)
        except StaleModel:
            return await self._current(session)
        if result is None:
            raise MessageError("the demo's task shares its results, the server does not")
        finished = Finished(number, self._witness.sent_bytes, result.clipped_entries or 0)
        self._starter.tell(**asdict(finished))
        await self._starter.reaches(number)
        return result.mean

    async def _current(self, session: Session) -> Model:
        """The last round's mean is the model; before the first round all start from zero."""
        try:
            return (await session.fetch_result()).mean
        except NotFound:
            return training.initial(self._records.features.shape[1])

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Session]:
        """`clients.connect`, with the witness between the session and its channel."""
        directory = self._invitation.directory
        who = Identity.load(directory)
        site = Site(who.certificate, who.authority, who.signing_key, Safeguards(self._invitation.minimum_cohort))
        channel = GrpcChannel(self._invitation.address, who)
        transport = WitnessedTransport(GrpcTransport(lambda: channel), self._witness)
        try:
            journal = directory / JOURNAL_FILE
            async with join(transport, site, journal, task=TASK, patience_s=PATIENCE_S) as session:
                yield session
        finally:
            await channel.close()
