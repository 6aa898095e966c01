"""How a child process begins, and how it talks with the process that started it."""

import asyncio
import json
import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

LOG_FILE = "log.txt"


def settle(directory: Path) -> None:
    """Write all output to the log, and leave Ctrl-C to the starter, which then hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with (directory / LOG_FILE).open("ab") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())


class Starter:
    """The pipe to the starter, on the running event loop. The process ends when the starter hangs up.

    `said` is the last number that the starter said, -1 before it has said anything. What the numbers count is between
    the two; they only grow.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.said = -1
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), self._read)

    def tell(self, **message: float) -> None:
        """Send one message, as JSON; a starter that is gone is noticed on the other way."""
        self._pipe.send_bytes(json.dumps(message).encode())

    async def reaches(self, number: int) -> None:
        """Wait until the starter has said that number, or a larger one."""
        while self.said < number:
            self._news.clear()
            await self._news.wait()

    def _read(self) -> None:
        try:
            self.said = int(self._pipe.recv_bytes())
        except (EOFError, OSError):
            raise SystemExit from None
        self._news.set()
