"""What an aggregator's configuration is worth before it starts: all that can be known without listening."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from aggregator.config import MIB, ServerConfig
from aggregator.crypto import roster as rosters
from aggregator.crypto.certificates import Certificate, Role
from aggregator.crypto.identity import Identity
from aggregator.crypto.revocation import read_revoked
from aggregator.doctor.disk import look_at_identity
from aggregator.doctor.finding import Finding, fault, good, skipped, warning
from aggregator.errors import SangamError
from aggregator.service.telemetry.exposition import is_loopback
from aggregator.settings import Settings, split_address

STAGING_FREE_BYTES: Final = 1024 * MIB  # below this, one upload of a large model may fill the disk


def check_settings(settings: Settings, now: datetime, ignored: list[str]) -> Iterator[Finding]:
    """Values first; the files that they name only when all of them hold.

    Args:
        settings: as read.
        now: this machine's clock, in UTC.
        ignored: variables of the environment that are taken for somebody else's.
    """
    faults = [fault("values", says, "docs/operating.md has every setting") for says in settings.faults]
    yield from faults
    if faults:
        yield from skipped(("files", "roster", "revoked", "staging", "state", "metrics"), faults)
        return
    yield good("values", f"the server would listen on {settings.config.address}")
    if ignored:
        remedy = "none is needed unless one of them was meant for the server"
        yield warning("values", f"not ours, and ignored: {', '.join(ignored)}", remedy)
    yield from check_files(settings.config, now)


def check_files(config: ServerConfig, now: datetime) -> Iterator[Finding]:
    """Identity, roster, revoked serials and staging directory; and where metrics are shown."""
    findings, identity = look_at_identity(config.identity, (Role.AGGREGATOR,), now)
    yield from findings
    yield look_at_roster(config.roster, identity, now) if identity else skipped(("roster",), findings)[0]
    yield look_at_revoked(config.revoked, identity)
    yield look_at_staging(config.staging_directory)
    yield look_at_state(config.state)
    yield look_at_metrics(config)


def look_at_roster(path: Path, identity: Identity, now: datetime) -> Finding:
    """Whether the roster is this authority's, and how many it names."""
    try:
        roster = rosters.load(path, identity.authority, now)
    except SangamError as error:
        return fault("roster", f"{path}: {error}", "ask the consortium for its newest roster.json")
    says = f"{path} is version {roster.version}, with {len(roster)} participants"
    expired = len(roster.expired_at(now))
    if expired or not roster.certificates:
        remedy = "nobody without a valid certificate can join: ask the consortium for its newest roster.json"
        return warning("roster", f"{says}, {expired} of them expired", remedy)
    return good("roster", says)


def look_at_revoked(path: Path | None, identity: Identity | None) -> Finding:
    """Whether the list can be read; and that the server has not revoked itself."""
    if path is None:
        return good("revoked", "no list of revoked serials is set: every certificate counts until it expires")
    try:
        serials = read_revoked(path)
    except SangamError as error:
        return fault("revoked", str(error), "ask the consortium for the list, or start with an empty file")
    own: Certificate | None = identity.certificate if identity else None
    if own is not None and own.serial in serials:
        return fault("revoked", f"{path} revokes this server's own certificate, {own.name}", "have a new one issued")
    return good("revoked", f"{path} revokes {len(serials)} certificates")


def look_at_staging(directory: Path | None) -> Finding:
    """Whether unlinked files can be made where uploads would go, and how much room there is."""
    return _look_at_room("staging", "uploads can be staged", directory or Path(tempfile.gettempdir()))


def look_at_state(directory: Path | None) -> Finding:
    """Whether what must outlive the server can be written; the server makes the directory itself."""
    if directory is None:
        says = "nothing outlives the server: tasks, rounds and results are in memory (ephemeral)"
        return warning("state", says, "set ephemeral = false for anything but a trial")
    home = next(place for place in (directory, *directory.parents) if place.exists())
    return _look_at_room("state", f"what outlives the server goes to {directory}", home)


def _look_at_room(check: str, says: str, home: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"sangam")
            file.flush()
        free = shutil.disk_usage(home).free
    except OSError as error:
        remedy = f"make the directory, and let user {os.getuid()} write into it" if os.name == "posix" else "make it"
        return fault(check, f"nothing can be written into {home}: {error.strerror}", remedy)
    says = f"{says}; in {home} {free // MIB} MiB are free"
    if free < STAGING_FREE_BYTES:
        return warning(check, says, "an upload of a large model needs more: clear the disk, or set another")
    return good(check, says)


def look_at_metrics(config: ServerConfig) -> Finding:
    """Where they are shown, and to whom; nowhere in the clear but on loopback."""
    if config.metrics is None:
        return good("metrics", "no metrics are shown")
    if not config.insecure_loopback:
        return good("metrics", f"metrics are shown on {config.metrics}, over mutual TLS to operators")
    if is_loopback(split_address(config.metrics)[0]):
        return good("metrics", f"metrics are shown on {config.metrics} in the clear, to all who are on this machine")
    remedy = "choose a loopback address such as 127.0.0.1:9464, or leave insecure_loopback out for mutual TLS"
    return fault("metrics", f"{config.metrics} is not loopback, and insecure_loopback is set", remedy)
