"""`sangam gateway`: the operator API as JSON over HTTP, for platforms that speak no gRPC."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from aggregator.errors import ParameterError


def gateway(
    address: Annotated[str, typer.Option(help="The aggregator, host:port.")],
    identity: Annotated[Path, typer.Option(help="The operator's directory: key.pem and identity.pem.")],
    *,
    listen: Annotated[str, typer.Option(help="IP address and port; port 0 lets the system choose.")] = "127.0.0.1:8080",
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that callers show; a must on any address but loopback.")
    ] = None,
) -> None:
    """Serve the operator API as JSON over HTTP, with the operator's identity; Ctrl-C or SIGTERM stops it.

    Whoever reaches it is the operator: keep it on loopback, or give it a token and put TLS before it.

    Example: [bold]sangam gateway --address hub:7443 --identity operator --listen 127.0.0.1:8080[/bold]
    """
    try:
        from aggregator.gateway.server import read_token, serve
    except ModuleNotFoundError as missing:
        raise ParameterError(f"the gateway needs {missing.name}: pip install 'sangam[http]'") from None
    from aggregator.crypto.identity import Identity

    who = Identity.load(identity)
    token = read_token(token_file) if token_file is not None else None

    async def run() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        async with serve(address, who, listen, token) as port:
            typer.echo(f"sangam: listening on http://{listen.rpartition(':')[0]}:{port}/v1", err=True)
            await stopped.wait()

    asyncio.run(run())
