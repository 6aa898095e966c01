"""What the doctor is asked."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

PATIENCE_S = 10.0

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, as this machine resolves it; OSError when it does not."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Case:
    """One site that wants to reach one aggregator.

    Args:
        host: the aggregator's name or address, as it stands in its certificate; IPv6 without brackets.
        port: its port.
        directory: the site's identity.
        now: this machine's clock, in UTC.
        environment: where proxies are set; gRPC itself always reads the process's own.
        proxy: what the clients are told as proxy=, http://host:port; empty is what the environment says.
        resolve: names to addresses.
        patience_s: the longest that one step over the network may take.
    """

    host: str
    port: int
    directory: Path
    now: Callable[[], datetime]
    environment: Mapping[str, str] = field(repr=False)  # passwords of proxies, and of others
    proxy: str = field(repr=False, default="")
    resolve: Resolve = resolve
    patience_s: float = PATIENCE_S

    @property
    def address(self) -> str:
        """host:port, as gRPC takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
