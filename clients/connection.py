"""From an address and an identity on disk to an open session.

async with clients.connect("aggregator:7443", "site/") as session:
    ...
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from aggregator.cores import Cores
from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import Identity
from aggregator.errors import ParameterError
from aggregator.protocol.participant import Safeguards, Site
from clients.journal import Journal
from clients.retry import DEFAULT_PATIENCE_S
from clients.session import Session
from clients.transport import GrpcChannel, GrpcTransport, Transport

JOURNAL_FILE = "journal.sqlite"

# Threads start with the first long vector; all sessions of a process share them.
_CORES = Cores()


@asynccontextmanager
async def connect(
    address: str,
    identity: Identity | Path | str,
    *,
    task: str = "",
    journal: Path | None = None,
    safeguards: Safeguards | None = None,
    patience_s: float = DEFAULT_PATIENCE_S,
) -> AsyncIterator[Session]:
    """Join a task as a participant.

    Args:
        address: host:port of the aggregator; the host must stand in its certificate.
        identity: this site's identity, or the directory that holds it.
        task: the task's name; empty for the server's only task.
        journal: this site's journal; by default beside the identity. One process at a time.
        safeguards: what this site insists on; by default at least three clients and more than half the roster.
        patience_s: how long a broken line is retried, seconds.

    Raises:
        NotAdmitted: the certificate has expired, is of another role, or the server refuses it.
        StorageError: identity or journal cannot be read, or another process holds the journal.
        NotFound: no such task.
        Disconnected: the server cannot be reached.
    """
    who = identity if isinstance(identity, Identity) else Identity.load(Path(identity))
    who.check(Role.PARTICIPANT, datetime.now(UTC))
    if journal is None and isinstance(identity, Identity):
        raise ParameterError("with an identity in memory, name the file of its journal")
    path = journal or Path(str(identity)) / JOURNAL_FILE
    site = Site(who.certificate, who.authority, who.signing_key, safeguards or Safeguards())
    channel = GrpcChannel(address, who)
    try:
        async with join(GrpcTransport(channel), site, path, task=task, patience_s=patience_s) as session:
            yield session
    finally:
        await channel.close()


@asynccontextmanager
async def join(
    transport: Transport, site: Site, journal: Path, *, task: str = "", patience_s: float = DEFAULT_PATIENCE_S
) -> AsyncIterator[Session]:
    """Join a task over a transport that is there already; arguments and errors as `connect`."""
    with Journal(journal) as opened:
        session = Session(transport, site, opened, task=task, patience_s=patience_s, each=_CORES.each)
        try:
            await session.open()
            yield session
        finally:
            await session.close()
