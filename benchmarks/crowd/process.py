"""A process that holds some of the clients: what it hears and says.

starter --> process     LEAVE_FIRST: who never answers leaves; LEAVE_LAST: who uploads badly does; END
starter <-- process     connected; then done, with counts by name
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

from aggregator.crypto.identity import Identity
from aggregator.errors import SangamError
from aggregator.local import child
from aggregator.local.tolerance import minimum_cohort
from aggregator.local.updates import Updates
from aggregator.local.workload import TENSOR, weight
from aggregator.protocol.participant import Safeguards, Site
from aggregator.wire.messages import ResultMessage, ResultRequest, UploadMessage, UploadReceipt
from benchmarks.crowd.misbehaving import Misbehaving, upload_headers, upload_nothing, upload_slowly
from benchmarks.crowd.settings import TASK, UPLOADING, Conduct, Settings
from clients.connection import JOURNAL_FILE, join
from clients.contribution import Observer
from clients.transport import GrpcChannel, GrpcTransport
from native.ring import word_dtype

LEAVE_FIRST, LEAVE_LAST, END = range(3)
BASE: Final = {"round": np.zeros(1)}
PATIENCE_S: Final = 120.0
LAST_WORDS_S: Final = 60.0  # an operator hears that a round has closed before a thousand sites on two cores do


@dataclass(frozen=True, slots=True)
class Invitation:
    """All that a process is told when it starts.

    Args:
        directory: its log, and the words of its clients.
        clients: numbers of its clients, and the directory of each.
        address: host:port of the server.
        updates: the file of the updates.
        settings: the run.
    """

    directory: Path
    clients: tuple[tuple[int, Path], ...]
    address: str
    updates: Path
    settings: Settings


def words_file(directory: Path) -> Path:
    """Where a process leaves its clients' words, a row for each of its clients; zeros of those that had none."""
    return directory / "words.npy"


def main(invitation: Invitation, pipe: Connection) -> None:
    """The target of its process."""
    child.settle(invitation.directory)
    asyncio.run(_attend(invitation, pipe))


async def _attend(invitation: Invitation, pipe: Connection) -> None:
    starter, settings = child.Starter(pipe), invitation.settings
    parameters = settings.workload.parameters()
    shape = len(invitation.clients), parameters.entries
    words = np.lib.format.open_memmap(words_file(invitation.directory), "w+", word_dtype(parameters.ring_bits), shape)
    updates, crowd = Updates(invitation.updates, settings.workload.entries), Crowd(invitation, starter)
    async with AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(Member(crowd, number, directory, updates, words[row]))
            for row, (number, directory) in enumerate(invitation.clients)
            if settings.conduct(number) in UPLOADING
        ]
        others = [
            asyncio.create_task(crowd.misbehave(number, directory))
            for number, directory in invitation.clients
            if settings.conduct(number) not in UPLOADING
        ]
        starter.tell(connected=len(sessions))
        ends = await asyncio.gather(*(member.take_part() for member in sessions))
        await asyncio.gather(*others)
    words.flush()
    starter.tell(done=sum(ends), **crowd.refused, **{f"honest {name}": n for name, n in crowd.failed.items()})
    await starter.reaches(END + 1)  # never said: the starter hangs up


class Crowd:
    """What the clients of one process share."""

    def __init__(self, invitation: Invitation, starter: child.Starter) -> None:
        self.address, self.settings, self.starter = invitation.address, invitation.settings, starter
        self.refused: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    async def misbehave(self, number: int, directory: Path) -> None:
        """One of those that take no part."""
        conduct = self.settings.conduct(number)
        guest = Misbehaving(conduct, self.address, Identity.load(directory), self.settings, self.refused)
        leaves = LEAVE_FIRST if conduct in {Conduct.NEVER_ANSWERS, Conduct.FORGES} else END
        await self.until(leaves, guest.run())

    async def until(self, number: int, work: Any, grace_s: float = 0.0) -> Any:
        """Do the work until it is done, or the starter has said this number so many seconds ago."""
        doing, told = asyncio.ensure_future(work), asyncio.ensure_future(self.starter.reaches(number))
        try:
            await asyncio.wait({doing, told}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({doing}, timeout=grace_s)
            return doing.result() if doing.done() else None
        finally:
            doing.cancel()
            told.cancel()
            await asyncio.gather(doing, told, return_exceptions=True)


class Member(Observer):
    """One client with a session, honest at least until its input is asked for; as a transport it uploads as it likes.

    Args:
        crowd: the others of its process.
        number, directory: who it is.
        updates: of all clients.
        row: where its words are left.
    """

    def __init__(self, crowd: Crowd, number: int, directory: Path, updates: Updates, row: Any) -> None:
        self._crowd, self._number, self._directory = crowd, number, directory
        self._update, self._row = updates.of(number), row
        self._conduct = crowd.settings.conduct(number)
        self._who = Identity.load(directory)
        self._channel = GrpcChannel(crowd.address, self._who)
        self._inner = GrpcTransport(lambda: self._channel)
        self.control = self._inner.control
        self._joined = AsyncExitStack()

    async def __aenter__(self) -> "Member":
        site = Site(
            self._who.certificate,
            self._who.authority,
            self._who.signing_key,
            Safeguards(minimum_cohort(self._crowd.settings.workload.clients)),
        )
        joining = join(self, site, self._directory / JOURNAL_FILE, task=TASK, patience_s=PATIENCE_S)
        self._session = await self._joined.enter_async_context(joining)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._joined.aclose()
        await self._channel.close()

    def vectors(self, encoded: Any, payload: memoryview) -> None:
        """Leave the words, as they are before any mask."""
        self._row[:] = encoded

    async def take_part(self) -> bool:
        """Whether it is honest, and saw the round close; then it leaves."""
        honest = self._conduct is Conduct.HONEST
        leaves, grace_s = (END, LAST_WORDS_S) if honest else (LEAVE_LAST, 0.0)
        closed = await self._crowd.until(leaves, self._contribute(), grace_s)
        await self._joined.aclose()
        return honest and bool(closed)

    async def _contribute(self) -> bool:
        try:
            offer = {TENSOR: self._update}
            await self._session.contribute(offer, weight=weight(self._number), base=BASE, observer=self)
        except SangamError as error:
            (self._crowd.failed if self._conduct is Conduct.HONEST else self._crowd.refused)[type(error).__name__] += 1
            return False
        return True

    async def upload(self, parts: Iterable[UploadMessage]) -> UploadReceipt:
        """As it likes."""
        crowd = self._crowd
        try:
            match self._conduct:
                case Conduct.SLOW:
                    return await upload_slowly(self._channel, parts, crowd.settings)
                case Conduct.STOPS:
                    await upload_nothing(self._channel, parts)
                case Conduct.HEADERS:
                    await upload_headers(self._channel, parts, crowd.settings, crowd.refused)
            return await self._inner.upload(parts)
        except SangamError as error:
            crowd.refused[type(error).__name__] += 1
            raise

    def fetch_result(self, request: ResultRequest) -> AsyncIterator[ResultMessage]:
        """As a site's."""
        return self._inner.fetch_result(request)
