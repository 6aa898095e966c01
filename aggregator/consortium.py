"""A consortium's directory: who is certified, who was revoked, and the signed roster. Never on the aggregator.

    authority.pem, authority-key.pem    the authority
    issued.jsonl                        the ledger, only ever appended to
    roster.json, revoked.txt            what follows from it, for the aggregator; written again where they lag behind

The ledger comes first: a command that stopped half-way is finished by running it again, or by any other that writes.
A version of the roster is entered before it is signed, so that a crash wastes a number and never signs one twice.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from aggregator.crypto import authority as authorities
from aggregator.crypto import roster as rosters
from aggregator.crypto.authority import AUTHORITY_FILE, AUTHORITY_KEY_FILE, Authority
from aggregator.crypto.certificates import Certificate, Role, stamp
from aggregator.crypto.identity import encode_key, read_chain, write_chain
from aggregator.crypto.ledger import Event, Issued, Ledger, Revoked, Signed, encode
from aggregator.crypto.request import SigningRequest
from aggregator.crypto.revocation import write_revoked
from aggregator.crypto.roster import CERTIFICATES_MAX, Roster
from aggregator.errors import NameTaken, NotAdmitted, ParameterError, StorageError
from aggregator.files import append_lines, read_file, replace_file, write_new

LEDGER_FILE = "issued.jsonl"
LOCK_FILE = "issue.lock"
REVOKED_FILE = "revoked.txt"
ROSTER_FILE = "roster.json"


@dataclass(frozen=True, slots=True)
class HandOver:
    """What goes back to a site: its certificate and the authority's, in one public file."""

    certificate: Certificate
    authority: Certificate
    file: Path


def initialise(directory: Path, deployment: str, now: datetime, valid_for: timedelta) -> Authority:
    """Make a consortium's directory: the authority, its key, and a signed roster, version 0, of nobody.

    Raises:
        ParameterError: a malformed deployment name, or the directory holds a consortium already.
        StorageError: the disk refused.
    """
    authority = authorities.create_authority(deployment, now, valid_for)
    empty = rosters.sign_roster(authority, (), 0)
    private = {AUTHORITY_KEY_FILE: authority.key_pem}
    public = {
        AUTHORITY_FILE: authority.certificate.pem,
        LEDGER_FILE: encode(Signed(0, empty.root)),
        ROSTER_FILE: empty.to_bytes(),
        REVOKED_FILE: write_revoked(()),
    }
    write_new(directory, private, public)
    return authority


def issue_identity(
    request_file: Path,
    consortium: Path,
    out: Path | None,
    now: datetime,
    *,
    valid_for: timedelta,
    role: Role = Role.PARTICIPANT,
    hosts: Sequence[str] = (),
    replace: bool = False,
) -> HandOver:
    """Certify a request, enter a participant into the next roster, and write the one file that the site needs.

    Args:
        request_file: the site's request, first or for renewal.
        consortium: the consortium's directory.
        out: the file for the site, by default `<name>.pem`; one of the same name's that stands there is replaced.
        now: the consortium's clock, with time zone.
        valid_for: how long.
        role: the only role to grant.
        hosts: of an aggregator, instead of the requested ones.
        replace: whether a name may go over to another key; the old key's certificates are revoked.

    Raises:
        ParameterError: the request is refused (see crypto.authority.issue), or `out` is another file.
        NameTaken: the name is certified with another key.
        NotAdmitted: the authority has expired, or the key was revoked or goes under another name.
        StorageError: a file cannot be read or written, or another process is at work.
    """
    request_pem = read_file(request_file)
    asked = SigningRequest.from_pem(request_pem)
    file = out or Path(f"{asked.name}.pem")
    with _books(consortium, now) as books:
        _check_hand_over(file, asked.name, books.authority.certificate)
        ousted = _ousted(asked, books.ledger, replace=replace)
        _check_room(asked, books.ledger)
        certificate = authorities.issue(books.authority, request_pem, now, valid_for=valid_for, role=role, hosts=hosts)
        reason = f"replaced by another key, serial {certificate.serial:#x}"
        books.enter([*(Revoked(old.serial, now, reason) for old in ousted), Issued(certificate)])
        replace_file(file, write_chain(certificate, books.authority.certificate))
    return HandOver(certificate, books.authority.certificate, file)


def revoke(
    consortium: Path, now: datetime, reason: str, *, name: str | None = None, serial: int | None = None
) -> tuple[Certificate, ...]:
    """Let certificates count no more: all under a name, or all of the key that one serial's certificate is for.

    A participant leaves the next roster; the serials are in the list for the aggregator.

    Returns:
        What was revoked by this call; nothing when all of it had been before.

    Raises:
        ParameterError: unknown here, no reason, or not one of name and serial.
        StorageError: a file cannot be read or written, or another process is at work.
    """
    with _books(consortium, now) as books:
        found = _chosen(books.ledger, name, serial)
        fresh = tuple(one for one in found if one.serial not in books.ledger.revocations)
        books.enter([Revoked(one.serial, now, reason) for one in fresh])
    return fresh


def load_ledger(consortium: Path) -> Ledger:
    """Read all that the consortium has done; needs no lock, since the ledger only grows.

    Raises:
        StorageError: it cannot be read.
        MessageError: a line is damaged.
    """
    return Ledger.from_bytes(read_file(consortium / LEDGER_FILE))


def load_roster(consortium: Path, authority: Certificate, now: datetime) -> Roster:
    """Read and verify a consortium's current roster; errors as `roster.load`."""
    return rosters.load(consortium / ROSTER_FILE, authority, now)


@dataclass(frozen=True, slots=True)
class _Books:
    """The open directory, with its lock held."""

    directory: Path
    authority: Authority
    ledger: Ledger
    roster: Roster

    def enter(self, events: Sequence[Event]) -> None:
        """Write the events down, then all that follows from the ledger and is not so yet."""
        if events:
            append_lines(self.directory / LEDGER_FILE, b"".join(map(encode, events)))
        ledger = Ledger((*self.ledger.events, *events))
        members = ledger.members()
        if members != self.roster.certificates or self.roster.version != ledger.version:
            self._sign(members, ledger.version + 1)
        revoked = [(one, ledger.revocations.get(one.serial)) for one in ledger.certificates]
        listed = write_revoked((one.name, one.serial, mark.at) for one, mark in revoked if mark)
        file = self.directory / REVOKED_FILE
        if not file.exists() or read_file(file) != listed:
            replace_file(file, listed)

    def _sign(self, members: tuple[Certificate, ...], version: int) -> None:
        append_lines(self.directory / LEDGER_FILE, encode(Signed(version, rosters.root_of(members))))
        following = rosters.sign_roster(self.authority, members, version)
        replace_file(self.directory / ROSTER_FILE, following.to_bytes())


@contextlib.contextmanager
def _books(directory: Path, now: datetime) -> Iterator[_Books]:
    authority = Authority.load(directory)
    with _lock(directory / LOCK_FILE):
        ledger, roster = load_ledger(directory), load_roster(directory, authority.certificate, now)
        if roster.version > ledger.version:
            old, new = f"{LEDGER_FILE} ends with version {ledger.version}", f"{ROSTER_FILE} is version {roster.version}"
            raise StorageError(f"{directory}: {old}, but {new}: restore both from the same backup")
        yield _Books(directory, authority, ledger, roster)


def _ousted(asked: SigningRequest, ledger: Ledger, *, replace: bool) -> tuple[Certificate, ...]:
    """The certificates of another key under the same name: one name has one key, and one key has one name."""
    for old in ledger.of_key(asked.verifying_key):
        if old.serial in ledger.revocations:
            since = stamp(ledger.revocations[old.serial].at)
            raise NotAdmitted(f"the key of this request of {asked.name} was revoked on {since}: ask with a new key")
        if (old.name, old.role) != (asked.name, asked.role):
            raise NotAdmitted(f"the key of this request of {asked.name} is that of {old.name}, {old.role}")
    key = encode_key(asked.verifying_key)
    live = [old for old in ledger.named(asked.name) if old.serial not in ledger.revocations]
    ousted = tuple(old for old in live if encode_key(old.verifying_key) != key)
    if ousted and not replace:
        raise NameTaken(
            f"{asked.name} is certified with another key, serial {ousted[-1].serial:#x}: if the site asks for this "
            "itself (telephone), --replace revokes the old key"
        )
    return ousted


def _check_room(asked: SigningRequest, ledger: Ledger) -> None:
    """Before anything is written down, since a roster that cannot be signed could never follow from the ledger."""
    others = sum(member.name != asked.name for member in ledger.members())
    if asked.role is Role.PARTICIPANT and others >= CERTIFICATES_MAX:
        raise ParameterError(f"the roster holds {CERTIFICATES_MAX} participants, which is all that it can")


def _chosen(ledger: Ledger, name: str | None, serial: int | None) -> tuple[Certificate, ...]:
    if (name is None) == (serial is None):
        raise ParameterError("say whom to revoke: either a name or a serial number")
    if name is not None:
        found = ledger.named(name)
        if not found:
            raise ParameterError(f"nobody was certified here under the name {name[:80]}")
        return found
    for one in ledger.certificates:
        if one.serial == serial:
            return ledger.of_key(one.verifying_key)
    raise ParameterError(f"no certificate with the serial {serial:#x} was issued here")


def _check_hand_over(file: Path, name: str, authority: Certificate) -> None:
    if not file.exists():
        return
    try:
        certificate, _ = read_chain(read_file(file))
    except NotAdmitted:
        raise ParameterError(f"{file} exists already and is no identity: choose another file") from None
    if certificate.name != name or not certificate.issued_by(authority):
        raise ParameterError(f"{file} exists already and is not {name}'s: choose another file")


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise StorageError(f"another `sangam pki` command is at work; if none is, remove {path}") from None
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
