"""A site's checks, one after the other: those that an earlier fault forestalls are shown as skipped."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aggregator.crypto.certificates import Role
from aggregator.doctor.case import Case
from aggregator.doctor.disk import look_at_identity
from aggregator.doctor.finding import Finding, is_sound, skipped
from aggregator.doctor.journal import look_at_journal
from aggregator.doctor.line import look_at_way
from aggregator.doctor.probe import FURTHER, ask_server
from aggregator.doctor.tls import look_at_tls

ROLES: Final = (Role.PARTICIPANT, Role.OPERATOR)  # who dials an aggregator


async def examine(case: Case) -> AsyncIterator[Finding]:
    """Every check's finding, as soon as it is there."""
    disk, identity = look_at_identity(case.directory, ROLES, case.now())
    if identity is not None:
        disk.append(look_at_journal(case.directory, identity.certificate.role))
    else:
        disk += skipped(("journal",), disk)
    for finding in disk:
        yield finding
    way = await look_at_way(case)
    for finding in way.findings:
        yield finding
    if identity is None or way.dial is None:
        causes = [*(disk if identity is None else ()), *(way.findings if way.dial is None else ())]
        for finding in skipped(("TLS", "admission", *FURTHER), causes):
            yield finding
        return
    tls = await asyncio.to_thread(look_at_tls, case, identity, way.dial)
    yield tls
    answers = await ask_server(case, identity) if is_sound([tls]) else skipped(("admission", *FURTHER), [tls])
    for finding in answers:
        yield finding
