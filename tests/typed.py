"""`sangam ...` as somebody types it: in a process of its own, where warnings are errors."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.loopback import TOO_LONG_S


async def sangam(*arguments: object, **environment: str) -> Process:
    """Start it, both its outputs at hand; `environment` adds to this process's."""
    words = ["-W", "error", "-m", "aggregator", *map(str, arguments)]
    given = {**os.environ, **environment}
    return await asyncio.create_subprocess_exec(sys.executable, *words, stdout=PIPE, stderr=PIPE, env=given)


@asynccontextmanager
async def running(*arguments: object) -> AsyncIterator[Process]:
    """A command that goes on until the block ends, or before."""
    process = await sangam(*arguments)
    try:
        async with asyncio.timeout(3 * TOO_LONG_S):  # kernels may have to be compiled
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def ended(process: Process, code: int = 0) -> tuple[str, str]:
    """Wait for its end, under this exit status; what it said on stdout and on stderr."""
    out, err = (data.decode() for data in await process.communicate())
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err
