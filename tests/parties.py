"""Key holder and auditor of the tests: real ones, with ledgers in the test's directory, against a `tests.memory.Room`.

    room = Room(tmp_path, 4, spec=parameters())
    async with attending(room) as staff:
        ends = await room.play(offers(4))
    staff.key_holder, staff.auditor     the parties
    staff.transports[AUDITOR].sent      what it said

Never use these keys outside tests: anybody can compute them.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from aggregator.crypto import custody
from aggregator.crypto.certificates import Role
from aggregator.crypto.custody import Safe
from aggregator.crypto.identity import Identity
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.protocol.participant import Safeguards, Site
from aggregator.protocol.parties import AUDITOR, KEY_HOLDER, Audit, Parties
from clients.audit_ledger import AuditLedger
from clients.auditor import Auditor
from clients.credentials import Credentials
from clients.key_ledger import KeyLedger
from clients.keyholder import KeyHolder
from clients.party import Party
from tests import loopback
from tests.consortium import TASK, drbg
from tests.memory import Lie, MemoryTransport, Room, honest

NAMES = {KEY_HOLDER: "key-holder", AUDITOR: "auditor"}
FROZEN = Parties(NAMES[KEY_HOLDER], NAMES[AUDITOR])
ONE_SHOT = Parties(NAMES[KEY_HOLDER], NAMES[AUDITOR], Audit.ONE_SHOT)
TRUST_SERVER = Parties(NAMES[KEY_HOLDER], "", Audit.TRUST_SERVER)
ANY_AUDIT = Safeguards(minimum_cohort=2, audits=frozenset(Audit))


def parameters(shape: tuple[int, ...] = (4,), parties: Parties = FROZEN, **changes: Any) -> Parameters:
    """One tensor `x`, up to ten clients, at least two, in homomorphic mode."""
    return loopback.parameters(shape, **{"mode": Mode.HOMOMORPHIC, "parties": parties, **changes})


@cache
def identity(number: int) -> Identity:
    """Key holder's or auditor's."""
    role = {KEY_HOLDER: Role.KEY_HOLDER, AUDITOR: Role.AUDITOR}[number]
    return loopback.issued(NAMES[number], role)


def site(who: Identity) -> Site:
    return Site(who.certificate, who.authority, who.signing_key, Safeguards())


@cache
def safe() -> Safe:
    """Two of three custodians have opened it."""
    files = custody.split(2, 3, drbg("custody"))
    return custody.combine([files[2], files[0]])


@dataclass
class Staff:
    """Who attends, and over which lines."""

    parties: dict[int, Party] = field(default_factory=dict)
    transports: dict[int, MemoryTransport] = field(default_factory=dict)
    ledgers: dict[int, Any] = field(default_factory=dict)
    running: dict[int, "asyncio.Task[None]"] = field(default_factory=dict)

    @property
    def key_holder(self) -> Party:
        return self.parties[KEY_HOLDER]

    @property
    def auditor(self) -> Party:
        return self.parties[AUDITOR]


def ledger_path(directory: Path, number: int) -> Path:
    return directory / f"{NAMES[number]}.sqlite"


@asynccontextmanager
async def attending(
    room: Room, *, lies: Mapping[int, Lie] | None = None, who: tuple[int, ...] = (KEY_HOLDER, AUDITOR)
) -> AsyncIterator[Staff]:
    """The parties of a room, joined; a party that ends with an error ends the block with it."""
    staff = Staff()
    async with AsyncExitStack() as stack:
        for number in who:
            transport = MemoryTransport(room.task, identity(number).certificate, (lies or {}).get(number, honest))
            kind = KeyLedger if number == KEY_HOLDER else AuditLedger
            ledger = stack.enter_context(kind(ledger_path(room.directory, number)))
            credentials = Credentials(site(identity(number)))
            party: Party
            if number == KEY_HOLDER:
                party = KeyHolder(transport, credentials, ledger, safe(), task=TASK, patience_s=1.0)
            else:
                party = Auditor(transport, credentials, ledger, task=TASK, patience_s=1.0)
            staff.parties[number], staff.transports[number], staff.ledgers[number] = party, transport, ledger
            staff.running[number] = asyncio.create_task(party.attend())
            stack.push_async_callback(_ended, staff.running[number])
        await loopback.until(lambda: all(room.task.lines.is_connected(NAMES[number]) for number in who))
        yield staff


async def _ended(running: "asyncio.Task[None]") -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
