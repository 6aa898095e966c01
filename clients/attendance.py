"""Key holder and auditor as processes: from an address, an identity and a ledger on disk to tasks that are attended.

await attend_as_auditor("aggregator:7443", Path("auditor"), ("sepsis",))
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import Final

from aggregator.crypto.certificates import Role
from aggregator.crypto.custody import Safe
from aggregator.crypto.identity import Identity
from aggregator.errors import Cancelled, ParameterError
from aggregator.protocol.participant import Safeguards
from clients.audit_ledger import AuditLedger
from clients.auditor import Auditor
from clients.caller import Caller
from clients.credentials import Credentials, IdentityFiles
from clients.key_ledger import KeyLedger
from clients.keyholder import KeyHolder
from clients.party import Party
from clients.transport import KEEPALIVE_S, GrpcChannel, PartyTransport

_LOG = logging.getLogger("clients")

LEDGER_FILE: Final = "ledger.sqlite"


async def attend_as_key_holder(
    address: str,
    identity: Path,
    tasks: Iterable[str],
    safe: Safe,
    *,
    ledger: Path | None = None,
    keepalive_s: float = KEEPALIVE_S,
) -> None:
    """Hold the keys of these tasks until all of them have ended.

    Args:
        address: host:port of the aggregator.
        identity: the directory of the key holder's identity; it is looked at again, for a renewed certificate.
        tasks: by name; those that are not there yet are waited for.
        safe: opened by the custodians' files.
        ledger: by default beside the identity. One process at a time.
        keepalive_s: how long the line may be silent before it is tested, seconds.

    Raises:
        ParameterError: no task.
        NotAdmitted: another role, an expired certificate, or a task that names another key holder.
        StorageError: identity or ledger cannot be read, or another process holds the ledger.
    """
    who = IdentityFiles(identity, role=Role.KEY_HOLDER)  # first: in a directory of another role no ledger is made
    with KeyLedger(ledger or identity / LEDGER_FILE) as opened:

        def party(task: str, transport: PartyTransport, credentials: Credentials) -> Party:
            return KeyHolder(transport, credentials, opened, safe, task=task, patience_s=inf)

        await _attend(address, who, tasks, party, keepalive_s)


async def attend_as_auditor(
    address: str,
    identity: Path,
    tasks: Iterable[str],
    *,
    ledger: Path | None = None,
    keepalive_s: float = KEEPALIVE_S,
) -> None:
    """Audit these tasks until all of them have ended; arguments and errors as `attend_as_key_holder`."""
    who = IdentityFiles(identity, role=Role.AUDITOR)
    with AuditLedger(ledger or identity / LEDGER_FILE) as opened:

        def party(task: str, transport: PartyTransport, credentials: Credentials) -> Party:
            return Auditor(transport, credentials, opened, task=task, patience_s=inf)

        await _attend(address, who, tasks, party, keepalive_s)


async def _attend(
    address: str,
    identity: IdentityFiles,
    tasks: Iterable[str],
    party: Callable[[str, PartyTransport, Credentials], Party],
    keepalive_s: float,
) -> None:
    names = tuple(tasks)
    if not all(names) or not names:
        raise ParameterError("name the tasks to attend, each by its own name")
    async with _calling(address, identity, keepalive_s) as caller:
        parties = []
        for task in names:
            credentials = caller.credentials()
            parties.append(party(task, caller.transport(credentials), credentials))
        attending = [asyncio.create_task(_until_it_ends(one, name)) for one, name in zip(parties, names, strict=True)]
        try:
            await asyncio.gather(*attending)
        finally:
            for one in attending:
                one.cancel()
            await asyncio.gather(*attending, return_exceptions=True)


async def _until_it_ends(party: Party, task: str) -> None:
    try:
        await party.attend()
    except Cancelled as ended:
        _LOG.info("task %s has ended: %s", task, ended)


@asynccontextmanager
async def _calling(address: str, identity: IdentityFiles, keepalive_s: float) -> AsyncIterator[Caller]:
    def dial(who: Identity) -> GrpcChannel:
        return GrpcChannel(address, who, keepalive_s=keepalive_s)

    caller = Caller(identity, dial, Safeguards())
    try:
        yield caller
    finally:
        await caller.close()
