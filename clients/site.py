"""One site at one server, in as many tasks at once as it likes: one journal, one identity, one connection.

async with clients.open_site("aggregator:7443", "site/") as site:
    async with site.join("sepsis") as sepsis, site.join("stroke") as stroke:
        await asyncio.gather(sepsis.contribute(...), stroke.contribute(...))
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aggregator.cores import Cores
from aggregator.crypto.identity import Identity
from aggregator.errors import ParameterError
from aggregator.protocol.participant import Safeguards
from clients.caller import Caller
from clients.credentials import Credentials, IdentityFiles
from clients.journal import Journal
from clients.session import Session
from clients.transport import GrpcChannel, Transport

# Threads start with the first long vector; all sessions of a process share them.
_CORES = Cores()


class OpenSite:
    """Joins tasks. Made by `open_site`.

    Args:
        identity: who it is; from files, it is read again when they are replaced.
        dial: opens a channel to the server as an identity.
        journal: this site's memory across restarts; all its sessions share it.
        safeguards: what it insists on, in every task.
        patience_s: how long a broken line is retried, seconds.
    """

    def __init__(
        self,
        identity: Identity | IdentityFiles,
        dial: Callable[[Identity], GrpcChannel],
        journal: Journal,
        safeguards: Safeguards,
        patience_s: float,
    ) -> None:
        self._caller = Caller(identity, dial, safeguards)
        self._journal = journal
        self._patience_s = patience_s
        self._tasks: set[str] = set()

    @asynccontextmanager
    async def join(self, task: str = "") -> AsyncIterator[Session]:
        """Join one task; empty for the server's only one. Each task once at a time.

        Raises:
            ParameterError: this site is in that task already.
            NotAdmitted, NotFound: the server refuses the certificate, or has no such task.
            Disconnected: the server cannot be reached.
            SangamError: whatever else the server names.
        """
        credentials = self._caller.credentials()
        transport = self._caller.transport(credentials)
        if task in self._tasks or "" in self._tasks or (self._tasks and not task):
            names = ", ".join(sorted(self._tasks - {""})) or "its only task"
            raise ParameterError(f"this site is in {names} already: name another task, one session for each")
        self._tasks.add(task)
        try:
            async with joined(transport, credentials, self._journal, task=task, patience_s=self._patience_s) as session:
                self._tasks.remove(task)
                task = session.task
                self._tasks.add(task)
                yield session
        finally:
            self._tasks.remove(task)

    async def close(self) -> None:
        """Close every channel."""
        await self._caller.close()


@asynccontextmanager
async def joined(
    transport: Transport, credentials: Credentials, journal: Journal, *, task: str, patience_s: float
) -> AsyncIterator[Session]:
    """A session over a transport and a journal that are there already; errors as `OpenSite.join`."""
    session = Session(transport, credentials, journal, task=task, patience_s=patience_s, each=_CORES.each)
    try:
        await session.open()
        yield session
    finally:
        await session.close()
