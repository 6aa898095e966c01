"""Sites on disk, and servers on loopback that are wrong in one way each; ports are the system's choice."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from aggregator.crypto import authority as authorities
from aggregator.crypto.authority import Authority
from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import IDENTITY_FILE, KEY_FILE, Identity
from aggregator.doctor.case import Case
from aggregator.doctor.examination import examine
from aggregator.doctor.finding import Finding, Level
from aggregator.service.status import reporting
from aggregator.wire.codec import encode
from aggregator.wire.messages import PROTOCOL_VERSION, ServerInfo
from tests.consortium import DEPLOYMENT, Consortium
from tests.loopback import TOO_LONG_S

LOOPBACK = "127.0.0.1"
HOSTS = ("localhost",)

Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def now() -> datetime:
    return datetime.now(UTC)


async def to_loopback(host: str, port: int) -> list[str]:
    return [LOOPBACK]


async def nowhere(host: str, port: int) -> list[str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def site(directory: Path, identity: Identity | None = None) -> Path:
    """A participant's directory, or that of whom you say."""
    (identity or Consortium.of(3).identities[0]).save(directory / "site")
    return directory / "site"


def case(directory: Path, port: int, **changes: Any) -> Case:
    """A site that dials localhost, with no proxy set."""
    plain = Case("localhost", port, directory, now, {}, resolve=to_loopback, patience_s=TOO_LONG_S)
    return replace(plain, **changes)


async def findings(of: Case) -> dict[str, Finding]:
    """Every check's finding by its name; each check once."""
    async with asyncio.timeout(TOO_LONG_S):
        told = [finding async for finding in examine(of)]
    assert len({finding.check for finding in told}) == len(told)
    return {finding.check: finding for finding in told}


def levels(told: Mapping[str, Finding], level: Level) -> list[str]:
    """The checks that ended so."""
    return [check for check, finding in told.items() if finding.level is level]


def foreign(deployment: str = DEPLOYMENT) -> Authority:
    """The authority of another consortium, of the same name unless said."""
    return authorities.create_authority(deployment, now(), timedelta(days=3650))


def certified(by: Authority, role: Role = Role.AGGREGATOR, hosts: tuple[str, ...] = HOSTS) -> Identity:
    """Somebody of that consortium."""
    name = f"{by.certificate.deployment}-{role}"
    key, request = authorities.request(name, role, by.certificate.deployment, hosts)
    certificate = authorities.issue(by, request, now(), valid_for=timedelta(days=365), role=role)
    return Identity(certificate, key, by.certificate)


def info(**changes: Any) -> ServerInfo:
    """What a healthy server says."""
    healthy = ServerInfo(
        PROTOCOL_VERSION, PROTOCOL_VERSION, "stub", DEPLOYMENT, 7, True, now().timestamp(), "site-0000"
    )
    return replace(healthy, **changes)


@asynccontextmanager
async def answering(who: Identity, reply: Callable[[], Awaitable[ServerInfo]]) -> AsyncIterator[int]:
    """A gRPC server over mutual TLS that knows only Probe; what `reply` raises is its status."""

    async def call(data: bytes, context: Any) -> bytes:
        async with reporting(context):
            return encode(await reply())

    credentials = grpc.ssl_server_credentials([(who.key_pem, who.certificate.pem)], who.authority.pem, True)
    server = grpc.aio.server()
    port = server.add_secure_port(f"{LOOPBACK}:0", credentials)
    methods = {"Probe": grpc.unary_unary_rpc_method_handler(call)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("sangam.v1.Aggregation", methods),))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@asynccontextmanager
async def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that does what it is told with each line; the block ends when the other side has closed all lines."""
    loop, tasks = asyncio.get_running_loop(), list[asyncio.Task[None]]()

    with socket.create_server((LOOPBACK, 0)) as door:
        door.setblocking(False)
        loop.add_reader(door, lambda: tasks.append(loop.create_task(_carry(door.accept()[0], serve, tls))))
        try:
            yield door.getsockname()[1]
        finally:
            loop.remove_reader(door)
            await asyncio.gather(*tasks)


async def _carry(line: socket.socket, serve: Serve, tls: ssl.SSLContext | None) -> None:
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    line.setblocking(False)
    with line, suppress(OSError, asyncio.IncompleteReadError):
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, line, ssl=tls)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await serve(reader, writer)
        finally:
            await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close it and wait for that, so that nothing is left to the collector."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says nothing until the other side has left."""
    await reader.read()


def showing(directory: Path, who: Identity, *protocols: str) -> ssl.SSLContext:
    """TLS with this certificate; asks for no client certificate, so that only the server's side is looked at."""
    who.save(directory / "shown")
    return shown(directory / "shown" / IDENTITY_FILE, directory / "shown" / KEY_FILE, *protocols)


def shown(certificate: Path, key: Path, *protocols: str) -> ssl.SSLContext:
    """TLS with whatever certificate is in that file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(list(protocols or ("h2",)))
    return context


@asynccontextmanager
async def closed_port() -> AsyncIterator[int]:
    """A port where nobody listens, kept from others by a socket that is bound and does not listen."""
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        yield held.getsockname()[1]
