"""A process that holds some of the clients: a session each, over a channel and under a certificate each.

What it hears and says: `signals`. When the starter hangs up, the process ends.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from aggregator.bench import plain, signals
from aggregator.bench.contender import Contender, RacingTransport, Vanished, race
from aggregator.bench.settings import TASK, Kind, Settings
from aggregator.crypto.identity import Identity
from aggregator.local import child
from aggregator.local.tolerance import minimum_cohort
from aggregator.local.updates import Tally, Update, Updates, WordSum
from aggregator.local.workload import TENSOR, weight
from aggregator.protocol import encoding as protocol
from aggregator.protocol.participant import Safeguards, Site
from aggregator.wire.messages import UPLOAD_ID_BYTES, UploadHeader, UploadMessage, UploadReceipt
from clients.connection import JOURNAL_FILE, join
from clients.session import Session
from clients.transport import GrpcChannel, GrpcTransport

PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Invitation:
    """All that a worker is told when its process starts.

    Args:
        directory: its log, and the words that it leaves.
        clients: numbers of its clients, from 0, and the directory of each.
        addresses: host:port of the server for each kind of round.
        updates: the file of the updates.
        settings: the run.
    """

    directory: Path
    clients: tuple[tuple[int, Path], ...]
    addresses: Mapping[Kind, str]
    updates: Path
    settings: Settings


def words_file(directory: Path, index: int) -> Path:
    """Where a worker leaves the sum of its survivors' words in round `index`."""
    return directory / f"words-{index}.npy"


def base(index: int) -> protocol.Update:
    """The model of a round: another one each time, since a site contributes once to each."""
    return {"round": np.array([index])}


def main(invitation: Invitation, pipe: Connection) -> None:
    """Take part in every round of the run. The target of its process."""
    child.settle(invitation.directory)
    asyncio.run(_attend(invitation, pipe))


async def _attend(invitation: Invitation, pipe: Connection) -> None:
    starter, settings = child.Starter(pipe), invitation.settings
    updates = Updates(invitation.updates, settings.entries)
    async with AsyncExitStack() as stack:
        racers: dict[str, list[Racer]] = {address: [] for address in invitation.addresses.values()}
        for place, (address, found) in enumerate(racers.items()):
            for number, directory in invitation.clients:
                journal = f"{place}-{JOURNAL_FILE}"  # one for each server
                racer = Racer(number, directory, address, updates.of(number), settings, journal=journal)
                found.append(await stack.enter_async_context(racer))
        for index, kind in enumerate(settings.rounds):
            await starter.reaches(signals.begin(index))
            clients = racers[invitation.addresses[kind]]
            if kind is not Kind.PLAIN:
                await asyncio.gather(*(racer.open() for racer in clients))
            starter.tell(entered=index)
            total = await _run(kind, index, clients, starter, settings)
            if total is not None:
                total.save(words_file(invitation.directory, index))
            sent = [racer.contender.sent_bytes for racer in clients if not racer.contender.vanishes]
            starter.tell(done=index, sent_bytes=max(sent, default=0))
        await starter.reaches(signals.begin(len(settings.rounds)))  # never said: the starter hangs up


async def _run(
    kind: Kind, index: int, clients: list["Racer"], starter: child.Starter, settings: Settings
) -> WordSum | None:
    async def line_up() -> None:
        starter.tell(ready=1)
        await starter.reaches(signals.proceed(index))

    for racer in clients:
        racer.contender.line_up = line_up
        racer.contender.sent_bytes = 0
    if kind is Kind.PLAIN:
        await asyncio.gather(*(racer.send_plain(index + 1) for racer in clients))
        return None
    parameters = settings.parameters()
    total = WordSum(parameters.entries, parameters.ring_bits)
    await asyncio.gather(*(racer.contribute(index, total) for racer in clients))
    return total


class Racer:
    """One client: its channel for the whole run, its session until it vanishes.

    Args:
        number: from 0.
        directory: its identity and journal.
        address: host:port of the server.
        update: its values, the same in every round.
        settings: the run.
        journal: the journal's name.
    """

    def __init__(
        self, number: int, directory: Path, address: str, update: Update, settings: Settings, *, journal: str
    ) -> None:
        self.contender = Contender(_nobody, settings.vanishes(number))
        self._journal = directory / journal
        self._update = update
        self._settings = settings
        self._weight = weight(number)
        self._who = Identity.load(directory)
        self._channel = GrpcChannel(address, self._who)
        self._joined = AsyncExitStack()
        self._session: Session | None = None

    async def __aenter__(self) -> "Racer":
        async with asyncio.timeout(PATIENCE_S):
            await self._channel.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._joined.aclose()
        await self._channel.close()

    async def open(self) -> None:
        """Join the task, unless this client is still there from the last round."""
        if self._session is None:
            who, safeguards = self._who, Safeguards(minimum_cohort(self._settings.clients))
            site = Site(who.certificate, who.authority, who.signing_key, safeguards)
            transport = RacingTransport(GrpcTransport(lambda: self._channel), self.contender)
            joining = join(transport, site, self._journal, task=TASK, patience_s=PATIENCE_S)
            self._session = await self._joined.enter_async_context(joining)

    async def contribute(self, index: int, total: WordSum) -> None:
        """One secure round. Who vanishes lets its control stream go, too."""
        if self._session is None:
            return
        tally = None if self.contender.vanishes else Tally(total)
        update = {TENSOR: self._update}
        try:
            await self._session.contribute(update, weight=self._weight, base=base(index), observer=tally)
        except Vanished:
            self._session = None
            await self._joined.aclose()

    async def send_plain(self, number: int) -> None:
        """One plain round."""
        plan = self._settings.plain_plan
        header = UploadMessage(UploadHeader(TASK, number, plan.payload_bytes, (), bytes(UPLOAD_ID_BYTES)))
        payload = self._update.copy()  # each client its own, as in a secure round: one that all share stays in cache
        chunks = (UploadMessage(chunk) for chunk in plan.cut(payload.data))
        try:
            await race(self.contender, (header, *chunks), self._upload_plain)
        except Vanished:
            return

    async def _upload_plain(self, parts: Iterable[UploadMessage]) -> UploadReceipt:
        return await self._channel.upward(plain.UPLOAD, parts, UploadReceipt)


async def _nobody() -> None:
    """The start line of no round."""
