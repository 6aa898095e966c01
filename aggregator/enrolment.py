"""A site's side of enrolment: ask, put in place what comes back, ask again before it ends.

site/key.pem        made here, never leaves
site/request.pem    goes to the consortium
site/identity.pem   what came back; a renewal replaces it in one step, so that a running process never reads half
"""

import hmac
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from aggregator.crypto import authority as authorities
from aggregator.crypto.certificates import Certificate, Role
from aggregator.crypto.identity import IDENTITY_FILE, KEY_FILE, Identity, read_chain, write_chain
from aggregator.crypto.request import SigningRequest
from aggregator.errors import NotAdmitted, ParameterError
from aggregator.files import read_file, replace_file, write_new

REQUEST_FILE = "request.pem"


def request_identity(directory: Path, name: str, role: Role, deployment: str, hosts: Sequence[str] = ()) -> Path:
    """Make a site's key and its request; the path of the request, which is what the consortium needs.

    Raises:
        ParameterError: malformed names, hosts that don't fit the role, or the directory holds a key already.
        StorageError: the disk refused.
    """
    key_pem, csr_pem = authorities.request(name, role, deployment, hosts)
    write_new(directory, {KEY_FILE: key_pem}, {REQUEST_FILE: csr_pem})
    return directory / REQUEST_FILE


def renew_identity(directory: Path, out: Path | None = None) -> Path:
    """Ask for a new certificate for the same key, as the same; the path of the request, `request.pem` by default.

    The old certificate stays in place and counts until the new one is installed.

    Raises:
        ParameterError: `out` exists and is no signing request.
        StorageError, NotAdmitted: there is no identity here that can be read, or the disk refused.
    """
    csr_pem = authorities.renew(Identity.load(directory))
    file = out or directory / REQUEST_FILE
    if file.exists():
        _check_is_request(file)
    replace_file(file, csr_pem)
    return file


def install_identity(file: Path, directory: Path, now: datetime, fingerprint: str | None = None) -> Identity:
    """Check what the consortium sent, and put it in place beside the key.

    Args:
        file: the one that `issue` wrote.
        directory: the site's own, with its key.
        now: the site's clock, with time zone.
        fingerprint: the authority's, in hexadecimal, learnt by another way than the file.

    Raises:
        NotAdmitted: not an identity, not this key's, another authority's, not as asked for, older, or out of date.
        ParameterError: a malformed fingerprint.
        StorageError: a file is missing, or the disk refused.
    """
    key_pem = read_file(directory / KEY_FILE)
    certificate, authority = read_chain(read_file(file))
    if fingerprint is not None:
        _check_fingerprint(authority, fingerprint)
    identity = Identity(certificate, key_pem, authority)
    _check_follows(directory, identity)
    identity.check(certificate.role, now)
    replace_file(directory / IDENTITY_FILE, write_chain(certificate, authority))
    return identity


def _check_follows(directory: Path, new: Identity) -> None:
    """The first must be what was asked for; a later one takes the place of the same holder's, never of a newer."""
    certificate = new.certificate
    if (directory / IDENTITY_FILE).exists():
        old = Identity.load(directory)
        if old.authority.fingerprint != new.authority.fingerprint:
            raise NotAdmitted(
                f"another authority than the one that {directory} trusts, {old.authority.fingerprint.hex()[:16]}: "
                f"this is {new.authority.fingerprint.hex()[:16]}"
            )
        if certificate.not_before < old.certificate.not_before:
            raise NotAdmitted(f"an older certificate of {certificate.name} than the one that is installed")
        _check_same(certificate, old.certificate)
    elif (directory / REQUEST_FILE).exists():
        _check_same(certificate, SigningRequest.from_pem(read_file(directory / REQUEST_FILE)))


def _check_same(certificate: Certificate, before: Certificate | SigningRequest) -> None:
    got = f"{certificate.name}, {certificate.role} of {certificate.deployment}"
    wanted = f"{before.name}, {before.role} of {before.deployment}"
    if got != wanted:
        raise NotAdmitted(f"a certificate of {got}; this site is {wanted}")


def _check_fingerprint(authority: Certificate, fingerprint: str) -> None:
    wanted = re.sub(r"[\s:]", "", fingerprint).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise ParameterError("an authority's fingerprint is 64 hexadecimal digits")
    if not hmac.compare_digest(authority.fingerprint, bytes.fromhex(wanted)):
        raise NotAdmitted(f"the authority in this file is {authority.fingerprint.hex()}, not the one expected")


def _check_is_request(file: Path) -> None:
    try:
        SigningRequest.from_pem(read_file(file))
    except ParameterError:
        raise ParameterError(f"{file} exists already and is no signing request: choose another file") from None
