"""What lies on this machine's disk: a key, and certificates."""

import os
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from aggregator.crypto.certificates import EXPIRES_SOON, Certificate, Role, stamp
from aggregator.crypto.identity import KEY_FILE, Identity
from aggregator.doctor.finding import Finding, fault, good, is_sound, skipped, warning
from aggregator.errors import NotAdmitted, StorageError

_OTHERS, _GROUP = 0o007, 0o070


def look_at_identity(directory: Path, roles: Collection[Role], now: datetime) -> tuple[list[Finding], Identity | None]:
    """What a directory's identity is worth; the identity, if it can be used now by one of these roles."""
    try:
        identity = Identity.load(directory)
    except (StorageError, NotAdmitted) as error:
        remedy = f"the identity is the directory that holds {KEY_FILE} and what the consortium handed over"
        findings = [fault("files", f"{directory}: {error}", remedy)]
        return findings + skipped(("key", "certificate", "authority"), findings), None
    needed = [
        good("files", f"{directory} holds a key, its certificate and the authority's"),
        look_at_certificate(identity.certificate, roles, now),
        _validity("authority", identity.authority, f"the authority of {identity.authority.deployment} lasts", now),
    ]
    return [needed[0], look_at_key(directory / KEY_FILE), *needed[1:]], identity if is_sound(needed) else None


def look_at_key(path: Path) -> Finding:
    """Who else on this machine may read the key."""
    mode = path.stat().st_mode & 0o777
    remedy = f"chmod 600 {path}; if somebody else may have read it, make a new key and have it certified"
    if os.name == "posix" and mode & _OTHERS:
        return fault("key", f"{path} has mode {mode:04o}: every user of this machine can read the key", remedy)
    if os.name == "posix" and mode & _GROUP:
        return warning("key", f"{path} has mode {mode:04o}: its group can read the key", remedy)
    return good("key", f"{path} can be read by its owner only")


def look_at_certificate(certificate: Certificate, roles: Collection[Role], now: datetime) -> Finding:
    """Whether the certificate is of one of these roles, and valid for another month."""
    if certificate.role not in roles:
        wanted = " or ".join(roles)
        remedy = f"use the directory of somebody who is certified as {wanted}, or ask the consortium for a certificate"
        says = f"{certificate.name} is certified as {certificate.role}, not as {wanted}"
        return fault("certificate", says, remedy)
    who = f"{certificate.name} is {certificate.role} of {certificate.deployment}"
    return _validity("certificate", certificate, who, now)


def _validity(check: str, certificate: Certificate, who: str, now: datetime) -> Finding:
    try:
        certificate.check_valid_at(now)
    except NotAdmitted as error:
        remedy = f"if this machine's clock ({stamp(now)}) is wrong, set it; else ask the consortium for a new one"
        return fault(check, str(error), remedy)
    left = certificate.not_after - now
    says = f"{who} until {stamp(certificate.not_after)}, {left.days} more days"
    if left < EXPIRES_SOON:
        return warning(check, says, "have it renewed by the consortium now")
    return good(check, says)
