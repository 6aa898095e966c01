"""The gateway's life: an identity and an address in, a listening HTTP server out."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvicorn

from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import Identity
from aggregator.errors import ParameterError
from aggregator.files import read_file
from aggregator.gateway.api import build
from aggregator.settings import split_address
from clients.transport import GrpcChannel

TOKEN_BYTES_LEAST: Final = 32
STOP_GRACE_S: Final = 2


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve(address: str, identity: Identity, listen: str, token: bytes | None) -> AsyncIterator[int]:
    """Listen until the block ends; gives the port.

    Args:
        address: host:port of the aggregator.
        identity: the operator's; every call is made under it.
        listen: host:port, the host an IP address; port 0 lets the system choose.
        token: what callers must show; None only where the address is loopback.

    Raises:
        NotAdmitted: no operator's certificate, or it has expired.
        ParameterError: the address cannot be listened on, or is not loopback and there is no token.
    """
    identity.check(Role.OPERATOR, datetime.now(UTC))
    door = _listen(listen, loopback_only=token is None)
    channel = GrpcChannel(address, identity)
    config = uvicorn.Config(
        build(channel, token),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_GRACE_S,
    )
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[door]))
    try:
        yield int(door.getsockname()[1])
    finally:
        server.should_exit = True
        await running
        await channel.close()


def read_token(path: Path) -> bytes:
    """The token in a file, without the space around it.

    Raises:
        StorageError: the file cannot be read.
        ParameterError: it is too short, or could not stand in a header.
    """
    token = read_file(path).strip()
    if len(token) < TOKEN_BYTES_LEAST or not all(0x21 <= octet <= 0x7E for octet in token):
        raise ParameterError(f"{path}: a token needs at least {TOKEN_BYTES_LEAST} visible ASCII characters")
    return token


def _listen(address: str, *, loopback_only: bool) -> socket.socket:
    host, port = split_address(address)
    try:
        where = ipaddress.ip_address(host)
    except ValueError:
        raise ParameterError(f"cannot listen on {address}: name an IP address, such as 127.0.0.1:8080") from None
    if loopback_only and not where.is_loopback:
        raise ParameterError(f"{address} is not loopback: whoever reaches it would be the operator; give a token file")
    door = socket.socket(socket.AF_INET6 if where.version == 6 else socket.AF_INET)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, port))
        door.listen()
    except OSError:
        door.close()
        raise ParameterError(f"cannot listen on {address}: the port is in use, or the address is not ours") from None
    return door
