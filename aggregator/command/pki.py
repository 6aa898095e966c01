"""`sangam pki`: make a consortium, ask for a certificate, issue one.

    consortium:  sangam pki init consortium --deployment demo
    site:        sangam pki request aiims-delhi --deployment demo --out site
    consortium:  sangam pki issue site/request.pem --authority consortium --out aiims-delhi
    site:        copies both files from aiims-delhi/ beside its key.pem

The work is done in `aggregator.consortium`; the commands read the clock and print.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from aggregator.consortium import ROSTER_FILE, initialise, issue_identity, request_identity
from aggregator.crypto.authority import AUTHORITY_KEY_FILE, Authority
from aggregator.crypto.certificates import Certificate, Role
from aggregator.crypto.identity import KEY_FILE

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365

app = typer.Typer(
    name="pki",
    help="Identities: make a consortium, ask for a certificate, issue one.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


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
    typer.echo(f"The site copies both files from {out} beside its {KEY_FILE}.")
    if role is Role.PARTICIPANT:
        typer.echo(f"Restart the aggregator with the new {authority / ROSTER_FILE}; sites get it from there.")
    _echo_fingerprint(Authority.load(authority).certificate)


def _echo_fingerprint(certificate: Certificate) -> None:
    typer.echo(f"Authority (compare by telephone): {certificate.fingerprint.hex()}")
