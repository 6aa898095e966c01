"""A real server in a process of its own, over a state directory, that is killed and started again at the same port.

async with killable(tmp_path, 4) as hub:
    await hub.kill()
    await hub.start()
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import clients
from aggregator.config import ServerConfig
from aggregator.local import server
from aggregator.local.processes import Child, nursery
from tests.consortium import Consortium
from tests.loopback import TOO_LONG_S, Hub, configured, operator


class KillableHub(Hub):
    """As `Hub`, but that there is no `running`."""

    config: ServerConfig
    child: Child

    def kill(self) -> None:
        """As `kill -9`."""
        self.child.kill()

    def restart(self) -> None:
        """Kill it, and start it again soon."""
        self.kill()
        self._starting = asyncio.create_task(self.start())

    async def start(self) -> None:
        """Again, over the same directory, at the same port."""
        self.child.start()
        await self.child.expect("port")


@asynccontextmanager
async def killable(directory: Path, n: int, **config: Any) -> AsyncIterator[KillableHub]:
    """A server for a roster of n participants, and an operator at it."""
    consortium = Consortium.of(n)
    made = configured(directory, consortium, state=directory / "state", **config)
    context = nursery()
    child = Child(context, "hub", made.identity, server.main, made)
    async with asyncio.timeout(TOO_LONG_S), AsyncExitStack() as stack:
        stack.callback(child.kill)
        port = (await child.expect("port"))["port"]
        made = dataclasses.replace(made, address=f"localhost:{port}")
        child.argument = made
        address = f"localhost:{port}"
        leader = await stack.enter_async_context(clients.operate(address, operator()))
        hub = KillableHub(port, consortium, directory, leader, None, None)  # type: ignore[arg-type]
        hub.child = child
        yield hub
