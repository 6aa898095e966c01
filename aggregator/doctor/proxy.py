"""Which proxy gRPC takes for an address, and whether the proxy lets it through.

gRPC takes the first of grpc_proxy, https_proxy and http_proxy that is set, even to nothing; lower case only; http://
only. The first of no_grpc_proxy and no_proxy that is set exempts hosts by the end of their names, and by subnet.
What a client is told outright (proxy=) comes before the three.

Source: gRPC's core, http_proxy_mapper.cc; RFC 9110, section 9.3.6 (CONNECT).
"""

import ipaddress
import socket
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from aggregator.errors import ParameterError

OPTION: Final = "--proxy"
VARIABLES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
EXEMPTIONS: Final = ("no_grpc_proxy", "no_proxy")
_HEAD_BYTES_MAX: Final = 16 << 10
_DEFAULT_PORT: Final = 443  # gRPC's, for a proxy without one


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, the variable that names it, and what it wants to be told of us."""

    host: str
    port: int
    variable: str
    credentials: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port} (from {self.variable})"


@dataclass(frozen=True, slots=True)
class Route:
    """How gRPC goes to an address: through a proxy or, where that is None, directly; and why."""

    proxy: Proxy | None
    reason: str
    ignored: bool = False  # somebody meant a proxy to be used, and gRPC does not


class Refused(OSError):
    """The proxy answered, but opens no tunnel."""


def choose_route(environment: Mapping[str, str], host: str, proxy: str = "") -> Route:
    """The way that gRPC will take to a host.

    Args:
        environment: with the proxies' variables.
        host: a name or an address.
        proxy: one that is named outright comes before the environment's; exemptions hold for it, too.

    Raises:
        ParameterError: it is named outright, and gRPC cannot use it.
    """
    set_here = {OPTION: proxy} if proxy else {name: environment[name] for name in VARIABLES if name in environment}
    variable, text = next(iter(set_here.items()), ("", ""))
    if not text:
        deaf = next((name.upper() for name in VARIABLES if environment.get(name.upper())), "")
        if deaf and not variable:
            return Route(None, f"{deaf} is set, but gRPC reads only lower-case names, and goes directly", ignored=True)
        return Route(None, "no proxy is set for gRPC in the environment: the line goes directly")
    exempting = next((name for name in EXEMPTIONS if name in environment), "")
    if exempting and _is_exempt(host, environment[exempting]):
        return Route(None, f"{exempting} exempts {host} from {variable}: the line goes directly")
    chosen = _parse(variable, text)
    if chosen is None and variable == OPTION:
        raise ParameterError(f"{OPTION} must be http://host:port")
    if chosen is None:
        return Route(None, f"{variable} is no http:// address, so gRPC ignores it and goes directly", ignored=True)
    return Route(chosen, f"the line goes through the proxy {chosen}")


def open_tunnel(proxy: Proxy, address: str, timeout_s: float) -> socket.socket:
    """A line to host:port through the proxy.

    Raises:
        Refused: the proxy answers with another status than 200, which the error names.
        OSError: the proxy cannot be reached.
    """
    line = socket.create_connection((proxy.host, proxy.port), timeout_s)
    try:
        line.sendall(_request(address, proxy.credentials))
        status = _read_head(line).split(b"\r\n", 1)[0].decode("latin-1")
        if status.split(" ")[1:2] != ["200"]:
            raise Refused(status[:80] or "nothing")
    except BaseException:
        line.close()
        raise
    return line


def _parse(variable: str, text: str) -> Proxy | None:
    try:
        url = urlsplit(text)
        port = url.port or _DEFAULT_PORT
    except ValueError:
        return None
    if url.scheme != "http" or not url.hostname:
        return None
    credentials, at, _ = url.netloc.rpartition("@")
    return Proxy(url.hostname, port, variable, unquote(credentials) if at else "")


def _is_exempt(host: str, listed: str) -> bool:
    entries = [entry.strip() for entry in listed.split(",") if entry]
    return any(host.lower().endswith(entry.lower()) or _is_within(host, entry) for entry in entries)


def _is_within(host: str, subnet: str) -> bool:
    try:
        return "/" in subnet and ipaddress.ip_address(host) in ipaddress.ip_network(subnet, strict=False)
    except ValueError:
        return False


def _request(address: str, credentials: str) -> bytes:
    lines = [f"CONNECT {address} HTTP/1.1", f"Host: {address}"]
    if credentials:
        lines.append(f"Proxy-Authorization: Basic {b64encode(credentials.encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode()


def _read_head(line: socket.socket) -> bytes:
    """Byte by byte: what follows the head belongs to TLS."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and len(head) < _HEAD_BYTES_MAX:
        byte = line.recv(1)
        if not byte:
            break
        head += byte
    return head
