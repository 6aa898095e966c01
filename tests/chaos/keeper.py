"""Processes that are started again whenever they end, as systemd would; and what each end was."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Final

from aggregator.errors import Disconnected
from aggregator.local.processes import Child

LISTENS_S: Final = 86_400.0
AGAIN_S: Final = 0.1


class Kept:
    """One process.

    Args:
        context: where it is forked.
        name: for people.
        directory: where its log is.
        target: its main function.
        argument: gives what to tell it, by how often it was started before.
        ended: told its exit status, and its last words, each time that it ends.
        heard: told what it says.
    """

    def __init__(
        self,
        context: ForkServerContext,
        name: str,
        directory: Path,
        target: Callable[..., None],
        argument: Callable[[int], object],
        ended: Callable[["Kept", int], None],
        heard: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.starts = 0
        self.keep = True  # start it again
        self.away_s = 0.0  # before it is started once more, the next time
        self._made = (context, name, directory, target)
        self._argument = argument
        self._ended = ended
        self._heard = heard
        self._child: Child | None = None

    async def run(self) -> None:
        """Keep it running until this is cancelled, and it killed, or until it ends while `keep` is False."""
        try:
            while self.keep:
                await self._live()
                away_s, self.away_s = self.away_s, 0.0
                await asyncio.sleep(AGAIN_S + away_s)
        finally:
            if self._child is not None:
                self._child.kill()

    @property
    def pid(self) -> int:
        """Of the process as it is now; 0 while there is none."""
        process = self._child._process if self._child is not None else None
        return process.pid or 0 if process is not None and process.is_alive() else 0

    @property
    def last_words(self) -> str:
        """The end of its log."""
        return self._child.log_tail() if self._child is not None else ""

    def signal(self, number: signal.Signals) -> bool:
        """Send it a signal; False when there is no process now."""
        pid = self.pid
        if not pid:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        return True

    async def _live(self) -> None:
        context, name, directory, target = self._made
        child = self._child = Child(context, name, directory, target, self._argument(self.starts))
        self.starts += 1
        with suppress(EOFError, Disconnected):
            while True:
                self._heard(await child.hear(LISTENS_S))
        await asyncio.to_thread(child._process.join)
        self._ended(self, child._process.exitcode or 0)
