"""`sangam doctor`: what keeps this site from its aggregator, in sentences."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from aggregator.command.findings import finish, show

if TYPE_CHECKING:
    from aggregator.doctor.case import Case
    from aggregator.doctor.finding import Finding


def doctor(
    address: Annotated[str, typer.Option(help="The aggregator, host:port, as for join and round.")],
    identity: Annotated[Path, typer.Option(help="The directory of the site, or of the operator.")],
    *,
    proxy: Annotated[
        str, typer.Option(help="http://host:port; by default, and with a password, what the environment says.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Say what is wrong between this site and the aggregator: files, certificate, DNS, proxy, TLS, clock, versions.

    Nothing is changed, and no round is entered. Ends with 0 if a session would succeed.

    Example: [bold]sangam doctor --address hub:7443 --identity site[/bold]
    """
    from aggregator.doctor.case import Case
    from aggregator.settings import split_address

    host, port = split_address(address)
    case = Case(host, port, identity, lambda: datetime.now(UTC), os.environ, proxy)
    console = Console(quiet=as_json)
    finish(asyncio.run(_examine(case, console)), as_json=as_json)


async def _examine(case: "Case", console: Console) -> "list[Finding]":
    from aggregator.doctor.examination import examine

    findings = []
    async for finding in examine(case):
        show(console, finding)
        findings.append(finding)
    return findings
