"""A consortium's directory: the authority with its key, and the signed roster; and what sites send and get back."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from aggregator.crypto import authority as authorities
from aggregator.crypto import roster as rosters
from aggregator.crypto.authority import AUTHORITY_KEY_FILE, Authority
from aggregator.crypto.certificates import Certificate, Role
from aggregator.crypto.identity import AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE
from aggregator.crypto.roster import Roster
from aggregator.errors import ParameterError, StorageError
from aggregator.files import read_file, sync_directory, write_new

REQUEST_FILE = "request.pem"
ROSTER_FILE = "roster.json"
LOCK_FILE = "issue.lock"


def initialise(directory: Path, deployment: str, now: datetime, valid_for: timedelta) -> Authority:
    """Make a consortium's directory: the authority, its key, and a signed roster, version 0, of nobody.

    Raises:
        ParameterError: a malformed deployment name, or the directory holds a consortium already.
        StorageError: the disk refused.
    """
    authority = authorities.create_authority(deployment, now, valid_for)
    empty = rosters.sign_roster(authority, (), 0)
    private = {AUTHORITY_KEY_FILE: authority.key_pem}
    public = {AUTHORITY_FILE: authority.certificate.pem, ROSTER_FILE: empty.to_bytes()}
    write_new(directory, private, public)
    return authority


def request_identity(directory: Path, name: str, role: Role, deployment: str, hosts: Sequence[str] = ()) -> Path:
    """Make a site's key and its request; the path of the request, which is what the consortium needs.

    Raises:
        ParameterError: malformed names, hosts that don't fit the role, or the directory holds a key already.
        StorageError: the disk refused.
    """
    key_pem, csr_pem = authorities.request(name, role, deployment, hosts)
    write_new(directory, {KEY_FILE: key_pem}, {REQUEST_FILE: csr_pem})
    return directory / REQUEST_FILE


def issue_identity(
    request_file: Path,
    consortium: Path,
    out: Path,
    now: datetime,
    *,
    valid_for: timedelta,
    role: Role = Role.PARTICIPANT,
    hosts: Sequence[str] = (),
) -> Certificate:
    """Certify a request, enter a participant into the next roster, and write what the site needs into `out`.

    `out` receives certificate.pem and authority.pem. The roster is written first: if the disk fails after that,
    issuing again replaces the same name. Only one process issues at a time, since no version may be signed twice.

    Raises:
        ParameterError: the request is refused (see crypto.identity.issue), or `out` holds a certificate already.
        NotAdmitted: the authority has expired, or the participant's key is another one's.
        StorageError: a file cannot be read or written, or another process is issuing.
    """
    public_files = (CERTIFICATE_FILE, AUTHORITY_FILE)
    if any((out / name).exists() for name in public_files):
        raise ParameterError(f"{out} holds a certificate already: choose a new directory")
    authority = Authority.load(consortium)
    with _lock(consortium / LOCK_FILE):
        request_pem = read_file(request_file)
        certificate = authorities.issue(authority, request_pem, now, valid_for=valid_for, role=role, hosts=hosts)
        if role is Role.PARTICIPANT:
            _enter(consortium / ROSTER_FILE, authority, certificate, now)
        contents = (certificate.pem, authority.certificate.pem)
        write_new(out, {}, dict(zip(public_files, contents, strict=True)))
    return certificate


def load_roster(consortium: Path, authority: Certificate, now: datetime) -> Roster:
    """Read and verify a consortium's current roster.

    Raises:
        StorageError: it cannot be read.
        MessageError, NotAdmitted: it is malformed, or not this authority's.
    """
    current = rosters.from_bytes(read_file(consortium / ROSTER_FILE))
    current.verify(authority, now)
    return current


def _enter(path: Path, authority: Authority, certificate: Certificate, now: datetime) -> None:
    current = load_roster(path.parent, authority.certificate, now)
    others = [other for other in current.certificates if other.name != certificate.name]
    following = rosters.sign_roster(authority, [*others, certificate], current.version + 1)
    staged = path.with_suffix(".new")
    staged.unlink(missing_ok=True)
    write_new(path.parent, {}, {staged.name: following.to_bytes()})
    try:
        staged.replace(path)
        sync_directory(path.parent)  # a version that came back after a power cut would be signed twice
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise StorageError(f"another `sangam pki issue` is at work; if none is, remove {path}") from None
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None
    try:
        yield
    finally:
        path.unlink()
