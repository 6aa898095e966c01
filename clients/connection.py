"""From an address and an identity on disk to open sessions.

async with clients.connect("aggregator:7443", "site/") as session:
    ...
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import Identity
from aggregator.errors import ParameterError
from aggregator.protocol.participant import Safeguards, Site
from clients.credentials import Credentials, IdentityFiles
from clients.journal import Journal
from clients.retry import DEFAULT_PATIENCE_S
from clients.session import Session
from clients.site import OpenSite, joined
from clients.transport import KEEPALIVE_S, GrpcChannel, Transport

JOURNAL_FILE = "journal.sqlite"


@asynccontextmanager
async def open_site(
    address: str,
    identity: Identity | Path | str,
    *,
    journal: Path | None = None,
    safeguards: Safeguards | None = None,
    patience_s: float = DEFAULT_PATIENCE_S,
    proxy: str = "",
    keepalive_s: float = KEEPALIVE_S,
    alike: Sequence[str] = (),
) -> AsyncIterator[OpenSite]:
    """Open a site, which then joins as many tasks as it likes.

    Args:
        address: host:port of the aggregator; the host must stand in its certificate.
        identity: this site's identity, or the directory that holds it; a directory is looked at again, so that a
            renewed certificate needs no restart.
        journal: this site's journal; by default beside the identity. One process at a time.
        safeguards: what this site insists on; by default at least three clients and more than half the roster.
        patience_s: how long a broken line is retried, and a renewed certificate waited for, seconds.
        proxy: http://host:port of a proxy; by default what the environment says (https_proxy). A host that its no_proxy
            names is called directly in either case.
        keepalive_s: how long the line may be silent before it is tested, seconds.
        alike: beginnings of tasks' names; on one model this site contributes once to all tasks that share one.

    Raises:
        ParameterError: no such proxy, too short a keepalive, or nowhere to keep the journal.
        NotAdmitted: the certificate has expired, or is of another role.
        StorageError: identity or journal cannot be read, or another process holds the journal.
    """
    who: Identity | IdentityFiles
    if isinstance(identity, Identity):
        who = identity
        who.check(Role.PARTICIPANT, datetime.now(UTC))
    else:
        who = IdentityFiles(Path(identity))
    if journal is None and isinstance(identity, Identity):
        raise ParameterError("with an identity in memory, name the file of its journal")

    def dial(caller: Identity) -> GrpcChannel:
        return GrpcChannel(address, caller, proxy=proxy, keepalive_s=keepalive_s)

    with Journal(journal or Path(str(identity)) / JOURNAL_FILE) as opened:
        opened.alike = tuple(alike)
        site = OpenSite(who, dial, opened, safeguards or Safeguards(), patience_s)
        try:
            yield site
        finally:
            await site.close()


@asynccontextmanager
async def connect(
    address: str,
    identity: Identity | Path | str,
    *,
    task: str = "",
    journal: Path | None = None,
    safeguards: Safeguards | None = None,
    patience_s: float = DEFAULT_PATIENCE_S,
    proxy: str = "",
    keepalive_s: float = KEEPALIVE_S,
    alike: Sequence[str] = (),
) -> AsyncIterator[Session]:
    """Join one task as a participant: `open_site`, and the site's `join`; see there for arguments and errors."""
    opening = open_site(
        address,
        identity,
        journal=journal,
        safeguards=safeguards,
        patience_s=patience_s,
        proxy=proxy,
        keepalive_s=keepalive_s,
        alike=alike,
    )
    async with opening as site, site.join(task) as session:
        yield session


@asynccontextmanager
async def join(
    transport: Transport, site: Site, journal: Path, *, task: str = "", patience_s: float = DEFAULT_PATIENCE_S
) -> AsyncIterator[Session]:
    """Join a task over a transport that is there already; errors as `OpenSite.join` and `Journal`."""
    with Journal(journal) as opened:
        async with joined(transport, Credentials(site), opened, task=task, patience_s=patience_s) as session:
            yield session
