"""`sangam pki`: make a consortium, enrol sites, renew, revoke.

    consortium:  sangam pki init consortium --deployment demo
    site:        sangam pki request aiims-delhi --deployment demo --out site
    consortium:  sangam pki issue site/request.pem --authority consortium
    site:        sangam pki install aiims-delhi.pem --identity site

The work is done in `aggregator.consortium` and `aggregator.enrolment`; the commands read the clock and print.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from aggregator.command import pki_tables
from aggregator.consortium import (
    REVOKED_FILE,
    ROSTER_FILE,
    initialise,
    issue_identity,
    load_ledger,
)
from aggregator.consortium import revoke as revoke_certificates
from aggregator.crypto.authority import AUTHORITY_KEY_FILE
from aggregator.crypto.certificates import Certificate, Role
from aggregator.crypto.identity import KEY_FILE
from aggregator.crypto.request import SigningRequest, hosts_of, key_fingerprint
from aggregator.enrolment import install_identity, renew_identity, request_identity
from aggregator.errors import ParameterError
from aggregator.files import read_file

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365

app = typer.Typer(
    name="pki",
    help="Identities: make a consortium, enrol sites, renew, revoke.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


_Hosts = Annotated[list[str] | None, typer.Option("--host", help="An aggregator's DNS name or IP address; repeatable.")]
_Authority = Annotated[Path, typer.Option(help="The consortium's directory.")]
_Identity = Annotated[Path, typer.Option(help="The site's own directory, with its key.")]


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
    authority = initialise(directory, deployment, _now(), timedelta(days=days))
    typer.echo(f"Consortium {deployment} is in {directory}. Keep {directory / AUTHORITY_KEY_FILE} secret.")
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
    typer.echo(f"Send {path} to the consortium. {out / KEY_FILE} stays here.")
    asked = SigningRequest.from_pem(read_file(path))
    typer.echo(f"Key (what `sangam pki show` must say there): {key_fingerprint(asked.verifying_key)}")


@app.command()
def issue(
    request_file: Annotated[Path, typer.Argument(help="The site's request.pem, its first or for renewal.")],
    authority: _Authority,
    out: Annotated[Path | None, typer.Option(help="The file for the site; by default NAME.pem.")] = None,
    *,
    days: Annotated[int, typer.Option(min=1, max=36500, help="How long the certificate lasts.")] = CERTIFICATE_DAYS,
    role: Annotated[Role, typer.Option(help="The only role to grant; must be the requested one.")] = Role.PARTICIPANT,
    host: _Hosts = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let the name go over to a new key; revokes the old.")
    ] = False,
) -> None:
    """Certify a request; a participant also enters the next roster. First make sure who sent the request.

    Example: [bold]sangam pki issue site/request.pem --authority consortium[/bold]

    Aggregator: [bold]sangam pki issue hub/request.pem --role aggregator --authority consortium[/bold]
    """
    lasts, hosts = timedelta(days=days), host or ()
    given = issue_identity(
        request_file, authority, out, _now(), valid_for=lasts, role=role, hosts=hosts, replace=replace
    )
    typer.echo(_described(given.certificate))
    typer.echo(f"Send {given.file} back; the site runs: sangam pki install {given.file.name} --identity DIRECTORY")
    if role is Role.PARTICIPANT:
        typer.echo(f"Give the aggregator the new {authority / ROSTER_FILE}; sites get it from there.")
    _echo_fingerprint(given.authority)


@app.command()
def install(
    file: Annotated[Path, typer.Argument(help="The file that the consortium sent back.")],
    identity: _Identity,
    authority_fingerprint: Annotated[
        str | None, typer.Option(help="What the consortium says its authority's is; by telephone, say.")
    ] = None,
) -> None:
    """Check what the consortium sent back and put it beside the key, in one step. Run by the site.

    A renewal takes the old one's place while processes that use it go on.

    Example: [bold]sangam pki install aiims-delhi.pem --identity site[/bold]
    """
    installed = install_identity(file, identity, _now(), authority_fingerprint)
    typer.echo(_described(installed.certificate))
    if authority_fingerprint is None:
        _echo_fingerprint(installed.authority)


@app.command()
def renew(
    identity: _Identity,
    out: Annotated[Path | None, typer.Option(help="The request; by default request.pem beside the key.")] = None,
) -> None:
    """Ask for a new certificate for the same key, before the old one ends. Run by the site.

    Where the key may be known to others, make a new one instead: `sangam pki request` into a new directory.

    Example: [bold]sangam pki renew --identity site[/bold]
    """
    path = renew_identity(identity, out)
    typer.echo(f"Send {path} to the consortium, then install what comes back; until then the old one counts.")


@app.command()
def revoke(
    name: Annotated[str | None, typer.Argument(help="Whose certificates, all of them.")] = None,
    *,
    serial: Annotated[str | None, typer.Option(help="Instead of a name: one certificate's, for its whole key.")] = None,
    authority: _Authority,
    reason: Annotated[str, typer.Option(help="Why, in a line; stays in the consortium's ledger.")],
) -> None:
    """Let a key's certificates count no more; a participant leaves the roster. Run by the consortium.

    Example: [bold]sangam pki revoke aiims-delhi --authority consortium --reason "laptop stolen"[/bold]
    """
    wanted = _hexadecimal(serial) if serial is not None else None
    revoked = revoke_certificates(authority, _now(), reason, name=name, serial=wanted)
    for certificate in revoked:
        typer.echo(f"{certificate.name}, {certificate.role}, serial {certificate.serial:#x} is revoked.")
    if not revoked:
        typer.echo(f"{name or serial} was revoked already.")
    typer.echo(f"Give the aggregator {authority / ROSTER_FILE} and {authority / REVOKED_FILE}.")


@app.command("list")
def list_certificates(
    authority: _Authority,
    *,
    expiring: Annotated[
        int | None, typer.Option(min=0, help="Only those in use that end within so many days, or have ended.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show every certificate that the consortium issued, and what has become of it.

    Example: [bold]sangam pki list --authority consortium --expiring 30[/bold]
    """
    now = _now()
    entries = pki_tables.entries(load_ledger(authority), now, expiring)
    if as_json:
        typer.echo(pki_tables.as_json(entries))
    else:
        pki_tables.show_entries(entries)


@app.command()
def show(file: Annotated[Path, typer.Argument(help="A request, an identity, a certificate or a roster.")]) -> None:
    """Print what is in a file. Nothing in it is verified but what is said to be.

    Example: [bold]sangam pki show site/request.pem[/bold]
    """
    for line in pki_tables.describe(read_file(file)):
        typer.echo(line)


def _now() -> datetime:
    return datetime.now(UTC)


def _hexadecimal(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise ParameterError(f"--serial {text[:80]}: a serial number is hexadecimal") from None


def _described(certificate: Certificate) -> str:
    hosts = f", at {', '.join(hosts_of(certificate))}" if certificate.role is Role.AGGREGATOR else ""
    ends = f"{certificate.not_after:%Y-%m-%d}"
    return f"{certificate.name} is {certificate.role} until {ends}, serial {certificate.serial:#x}{hosts}."


def _echo_fingerprint(authority: Certificate) -> None:
    typer.echo(f"Authority (compare by telephone): {authority.fingerprint.hex()}")
