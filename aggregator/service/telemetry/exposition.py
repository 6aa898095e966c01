"""Where the metrics are read: HTTP over mutual TLS, for operators of the consortium; plain HTTP on loopback only.

prometheus_client has a server of its own, which knows neither roles nor revoked serials, and reads its certificate
once. This one asks the gate of the calls. Lines have threads; the metrics are written down on the event loop, where
what they count changes.
"""

import asyncio
import ipaddress
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any, Final, Protocol, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import IDENTITY_FILE, KEY_FILE, Identity
from aggregator.errors import NotAdmitted, ParameterError, StorageError
from aggregator.service.rpc import Gate

_LOG = logging.getLogger(__name__)

PATH: Final = "/metrics"
LINES_MAX: Final = 8  # at once; a Prometheus needs one
PATIENCE_S: Final = 5.0  # for each step of a handshake, a request, a response
POLL_S: Final = 0.1  # how soon it stops when told
TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its path, the caller's certificate (empty without TLS), its headers."""

    path: str
    pem: bytes
    headers: Message


Answer: TypeAlias = Callable[[Asked], tuple[HTTPStatus, bytes, str]]


class Door(Protocol):
    """Who may see the metrics, and how the line is secured."""

    def wrap(self, line: socket.socket) -> socket.socket:
        """The line as it is spoken over; OSError for one who does not get as far as that. In a thread."""

    def check(self, pem: bytes, host: str) -> None:
        """NotAdmitted unless this caller may. On the event loop.

        Args:
            pem: the caller's certificate; empty without TLS.
            host: the name that it calls this server by.
        """


class Plain:
    """No TLS, hence for this machine only."""

    def wrap(self, line: socket.socket) -> socket.socket:
        """The very line."""
        return line

    def check(self, pem: bytes, host: str) -> None:
        """Refuse a web page whose own host name has come to mean this machine."""
        if not is_loopback(host):
            raise NotAdmitted("these metrics are for this machine only")


class Mutual:
    """TLS as the server is now, and operators whose certificates count now.

    Args:
        gate: of the calls.
        identity: who the server is now; replaced by a renewed one.
        directory: with its files.

    Raises:
        StorageError: the files are not those of the identity.
    """

    def __init__(self, gate: Gate, identity: Callable[[], Identity], directory: Path) -> None:
        self._gate = gate
        self._identity = identity
        self._directory = directory
        self._of = identity()
        self._context = self._made(self._of)

    def wrap(self, line: socket.socket) -> socket.socket:
        """The line under TLS, for those with a certificate of the authority."""
        identity = self._identity()
        if identity is not self._of:
            self._of, self._context = identity, self._made(identity)
        return self._context.wrap_socket(line, server_side=True)

    def check(self, pem: bytes, host: str) -> None:
        """As a call for operators."""
        self._gate.admit_certificate(pem, Role.OPERATOR)

    def _made(self, identity: Identity) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=identity.authority.pem.decode())
        try:
            context.load_cert_chain(self._directory / IDENTITY_FILE, self._directory / KEY_FILE)
        except OSError as error:  # ssl.SSLError is one
            raise StorageError(f"metrics: {self._directory} is not an identity any more: {error.strerror}") from None
        return context


class _Server(ThreadingTCPServer):
    """A thread a line, and few of them: whoever comes in vain takes no more than that."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 2 * LINES_MAX

    def __init__(self, address: tuple[str, int], door: Door, answer: Answer) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._door = door
        self.answer = answer
        self._free = threading.BoundedSemaphore(LINES_MAX)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(PATIENCE_S)
        # Who hangs up, or has no certificate, is nobody's news.
        with suppress(OSError), self._door.wrap(request) as line:
            super().finish_request(line, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _LOG.exception("the metrics could not be shown")


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "sangam"
    sys_version = ""

    def do_GET(self) -> None:
        """The metrics, or why not."""
        status, body, content_type = self.server.answer(Asked(self.path, self._pem(), self.headers))
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Not a line per scrape."""

    def _pem(self) -> bytes:
        line = self.connection
        shown = line.getpeercert(binary_form=True) if isinstance(line, ssl.SSLSocket) else None
        return ssl.DER_cert_to_PEM_cert(shown).encode() if shown else b""


@asynccontextmanager
async def exposed(address: str, registry: CollectorRegistry, door: Door) -> AsyncIterator[int]:
    """Show the metrics until the block ends; gives the port.

    Args:
        address: host:port; port 0 lets the system choose.
        registry: what to show.
        door: who may see it.

    Raises:
        ParameterError: the address cannot be listened on, or is not loopback and there is no TLS.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if isinstance(door, Plain) and not is_loopback(host):
        raise ParameterError(f"metrics: {address} is not loopback, and elsewhere they are shown over mutual TLS only")
    loop = asyncio.get_running_loop()

    def answer(asked: Asked) -> tuple[HTTPStatus, bytes, str]:
        return asyncio.run_coroutine_threadsafe(_answer(asked, door, registry), loop).result(PATIENCE_S)

    try:
        server = _Server((host, int(port)), door, answer)
    except (OSError, ValueError):
        raise ParameterError(f"metrics: cannot listen on {address}: the port is in use, or it is not ours") from None
    serving = threading.Thread(target=server.serve_forever, args=(POLL_S,), name="metrics", daemon=True)
    serving.start()
    try:
        yield int(server.server_address[1])
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own, seen from nowhere else."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host(header: str) -> str:
    """The host of a Host header, which may lack a port."""
    bare, colon, port = header.rpartition(":")
    host = bare if colon and port.isdecimal() else header
    return host.strip("[]")


async def _answer(asked: Asked, door: Door, registry: CollectorRegistry) -> tuple[HTTPStatus, bytes, str]:
    try:
        door.check(asked.pem, _host(asked.headers.get("Host", "")))
    except NotAdmitted as error:
        return HTTPStatus.FORBIDDEN, f"{error}\n".encode(), TEXT
    if asked.path.partition("?")[0] != PATH:
        return HTTPStatus.NOT_FOUND, f"there is {PATH}\n".encode(), TEXT
    encode, content_type = choose_encoder(asked.headers.get("Accept", ""))
    return HTTPStatus.OK, encode(registry), content_type
