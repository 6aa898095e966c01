"""`sangam pki`: make a consortium, ask for a certificate, issue one.

    consortium:  sangam pki init consortium --deployment demo
    site:        sangam pki request aiims-delhi --deployment demo --out site
    consortium:  sangam pki issue site/request.pem --authority consortium --out aiims-delhi
    site:        copies both files from aiims-delhi/ beside its key.pem

The functions do the work and take the clock as an argument; the commands below them read it and print.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from aggregator.crypto import identity, roster
from aggregator.crypto.identity import Authority, Certificate, Role
from aggregator.crypto.roster import Roster
from aggregator.errors import ParameterError, StorageError

REQUEST_FILE = "request.pem"
ROSTER_FILE = "roster.json"
LOCK_FILE = "issue.lock"
AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365

app = typer.Typer(
    name="pki",
    help="Identities: make a consortium, ask for a certificate, issue one.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def initialise(directory: Path, deployment: str, now: datetime, valid_for: timedelta) -> Authority:
    """Make a consortium's directory: the authority, its key, and a signed roster, version 0, of nobody.

    Raises:
        ParameterError: a malformed deployment name, or the directory holds a consortium already.
        StorageError: the disk refused.
    """
    authority = identity.create_authority(deployment, now, valid_for)
    empty = roster.sign_roster(authority, (), 0)
    private = {identity.AUTHORITY_KEY_FILE: authority.key_pem}
    public = {identity.AUTHORITY_FILE: authority.certificate.pem, ROSTER_FILE: empty.to_bytes()}
    identity.write_new(directory, private, public)
    return authority


def request_identity(directory: Path, name: str, role: Role, deployment: str, hosts: Sequence[str] = ()) -> Path:
    """Make a site's key and its request; the path of the request, which is what the consortium needs.

    Raises:
        ParameterError: malformed names, hosts that don't fit the role, or the directory holds a key already.
        StorageError: the disk refused.
    """
    key_pem, csr_pem = identity.request(name, role, deployment, hosts)
    identity.write_new(directory, {identity.KEY_FILE: key_pem}, {REQUEST_FILE: csr_pem})
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
    public_files = (identity.CERTIFICATE_FILE, identity.AUTHORITY_FILE)
    if any((out / name).exists() for name in public_files):
        raise ParameterError(f"{out} holds a certificate already: choose a new directory")
    authority = Authority.load(consortium)
    with _lock(consortium / LOCK_FILE):
        request_pem = identity.read_file(request_file)
        certificate = identity.issue(authority, request_pem, now, valid_for=valid_for, role=role, hosts=hosts)
        if role is Role.PARTICIPANT:
            _enter(consortium / ROSTER_FILE, authority, certificate, now)
        contents = (certificate.pem, authority.certificate.pem)
        identity.write_new(out, {}, dict(zip(public_files, contents, strict=True)))
    return certificate


def load_roster(consortium: Path, authority: Certificate, now: datetime) -> Roster:
    """Read and verify a consortium's current roster.

    Raises:
        StorageError: it cannot be read.
        MessageError, NotAdmitted: it is malformed, or not this authority's.
    """
    current = roster.from_bytes(identity.read_file(consortium / ROSTER_FILE))
    current.verify(authority, now)
    return current


def _enter(path: Path, authority: Authority, certificate: Certificate, now: datetime) -> None:
    current = load_roster(path.parent, authority.certificate, now)
    others = [other for other in current.certificates if other.name != certificate.name]
    following = roster.sign_roster(authority, [*others, certificate], current.version + 1)
    staged = path.with_suffix(".new")
    staged.unlink(missing_ok=True)
    identity.write_new(path.parent, {}, {staged.name: following.to_bytes()})
    try:
        staged.replace(path)
        identity.sync_directory(path.parent)  # a version that came back after a power cut would be signed twice
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


_Hosts = Annotated[list[str] | None, typer.Option("--host", help="An aggregator's DNS name or IP address; repeatable.")]


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="A new directory for the authority.")],
    deployment: Annotated[str, typer.Option(help="The consortium's name; every certificate carries it.")],
    days: Annotated[int, typer.Option(min=1, max=36500, help="How long the authority lasts.")] = AUTHORITY_DAYS,
) -> None:
    """Make a consortium: an authority, its key, and an empty signed roster.

    Run once, by the consortium, on a machine that is NOT the aggregator: whoever holds this key can invent clients.

    Example: [bold]sangam pki init consortium --deployment demo[/bold]
    """
    authority = initialise(directory, deployment, datetime.now(UTC), timedelta(days=days))
    typer.echo(f"Consortium {deployment} is in {directory}. Keep {directory / identity.AUTHORITY_KEY_FILE} secret.")
    _echo_fingerprint(authority.certificate)


@app.command()
def request(
    name: Annotated[str, typer.Argument(help="The site's name, for example aiims-delhi.")],
    deployment: Annotated[str, typer.Option(help="The consortium's name.")],
    out: Annotated[Path, typer.Option(help="A directory for the new key and the request.")],
    role: Annotated[Role, typer.Option(help="What the site will be.")] = Role.PARTICIPANT,
    host: _Hosts = None,
) -> None:
    """Make a key and a signing request. Run by the site: the key never leaves it.

    Example: [bold]sangam pki request aiims-delhi --deployment demo --out site[/bold]

    Aggregator: [bold]sangam pki request hub --role aggregator --host localhost --deployment demo --out hub[/bold]
    """
    path = request_identity(out, name, role, deployment, host or ())
    typer.echo(f"Send {path} to the consortium. {out / identity.KEY_FILE} stays here.")


@app.command()
def issue(
    request_file: Annotated[Path, typer.Argument(help="The site's request.pem.")],
    authority: Annotated[Path, typer.Option(help="The consortium's directory.")],
    out: Annotated[Path, typer.Option(help="A new directory for the two files that the site gets back.")],
    *,
    days: Annotated[int, typer.Option(min=1, max=36500, help="How long the certificate lasts.")] = CERTIFICATE_DAYS,
    role: Annotated[Role, typer.Option(help="The only role to grant; must be the requested one.")] = Role.PARTICIPANT,
    host: _Hosts = None,
) -> None:
    """Certify a request; a participant also enters the next roster. First make sure who sent the request.

    Example: [bold]sangam pki issue site/request.pem --authority consortium --out aiims-delhi[/bold]

    Aggregator: [bold]sangam pki issue hub/request.pem --role aggregator --authority consortium --out hub-out[/bold]
    """
    lasts = timedelta(days=days)
    certificate = issue_identity(
        request_file, authority, out, datetime.now(UTC), valid_for=lasts, role=role, hosts=host or ()
    )
    ends = f"{certificate.not_after:%Y-%m-%d}"
    typer.echo(f"{certificate.name} is {certificate.role} until {ends}, serial {certificate.serial:x}.")
    typer.echo(f"The site copies both files from {out} beside its {identity.KEY_FILE}.")
    if role is Role.PARTICIPANT:
        typer.echo(f"Restart the aggregator with the new {authority / ROSTER_FILE}; sites get it from there.")
    _echo_fingerprint(Authority.load(authority).certificate)


def _echo_fingerprint(certificate: Certificate) -> None:
    typer.echo(f"Authority (compare by telephone): {certificate.fingerprint.hex()}")
