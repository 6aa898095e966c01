"""`sangam serve`: run the aggregator until it is told to stop."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from aggregator.config import DEFAULT_STAGING_BYTES, ServerConfig

MIB = 1 << 20


def serve(
    identity: Annotated[Path, typer.Option(help="Directory with the aggregator's key.pem and both certificates.")],
    roster: Annotated[Path, typer.Option(help="The consortium's signed roster.json.")],
    *,
    listen: Annotated[str, typer.Option(help="host:port; port 0 lets the system choose.")] = "[::]:7443",
    staging_mib: Annotated[
        int, typer.Option(min=0, help="Memory for half-arrived uploads, MiB; beyond it they go to unlinked files.")
    ] = DEFAULT_STAGING_BYTES // MIB,
    staging_directory: Annotated[Path | None, typer.Option(help="Where those files go.")] = None,
    revoked: Annotated[Path | None, typer.Option(help="File of revoked serial numbers, one per line.")] = None,
) -> None:
    """Run the aggregator. It answers to certificates of its own consortium only; Ctrl-C or SIGTERM stops it.

    Example: [bold]sangam serve --identity hub --roster consortium/roster.json --listen localhost:7443[/bold]
    """
    config = ServerConfig(listen, identity, roster, staging_mib * MIB, staging_directory, revoked)
    asyncio.run(_serve(config))


async def _serve(config: ServerConfig) -> None:
    from aggregator.service import app as service

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with service.serve(config) as running:
        host = config.address.rpartition(":")[0]
        typer.echo(f"sangam: listening on {host}:{running.port}", err=True)
        await stopped.wait()
        typer.echo("sangam: stopping", err=True)
