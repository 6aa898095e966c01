"""Starting child processes, hearing from them, and ending them.

They come from multiprocessing's fork server: one process imports the heavy modules once (Numba, NumPy, gRPC without
any channel: about a second), and every process is forked from it in milliseconds. So a killed one is back at once.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

from aggregator.errors import Disconnected, MessageError, SangamError, StorageError
from aggregator.local.child import LOG_FILE
from aggregator.local.screen import Screen

ALWAYS_PRELOADED = ("aggregator.local.server", "aggregator.__main__")
START_S = 60.0
LOG_LINES = 12


def end_gently() -> None:
    """Let SIGTERM do what Ctrl-C does: asyncio cancels its main task, and everything is cleaned up."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def nursery(*preloaded: str) -> ForkServerContext:
    """Start the fork server; it imports these modules while we go on. One thread in it: a fork copies only one.

    Run in the main thread. What it forks leaves Ctrl-C to us from its first instruction on.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("no_grpc_proxy", "127.0.0.1")  # nothing leaves this machine
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*preloaded, *ALWAYS_PRELOADED])
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a process is born with what its parent ignores
    try:
        ensure_running()
    except OSError as error:  # a socket's path has 108 bytes at most, and a temporary directory may be longer
        raise StorageError(f"no process can be started from {tempfile.gettempdir()}: {error}; set TMPDIR") from None
    finally:
        signal.signal(signal.SIGINT, before)
    return context


@contextmanager
def ending(children: list["Child"], screen: Screen) -> Iterator[None]:
    """No process of the list outlives the block; an error shows what they wrote last."""
    try:
        yield
    except SangamError:
        for child in children:
            screen.log(child.name, child.log_tail())
        raise
    finally:
        for child in children:
            child.kill()


class Child:
    """One process, started at once and again on demand; inside a running event loop.

    Args:
        context: where it is forked.
        name: for people.
        directory: where its log is.
        target: its main function, called with `argument` and its end of the pipe.

    Attributes:
        argument: of its next start.
    """

    def __init__(
        self, context: ForkServerContext, name: str, directory: Path, target: Callable[..., None], argument: object
    ) -> None:
        self.name = name
        self._context = context
        self._log = directory / LOG_FILE
        self._target = target
        self.argument = argument
        self.start()

    def start(self) -> None:
        """Start the process, for the first time or after its end."""
        self._inbox: asyncio.Queue[bytes | EOFError] = asyncio.Queue()
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(target=self._target, args=(self.argument, theirs), daemon=True)
        self._process.start()
        theirs.close()
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._read)

    def tell(self, number: int) -> None:
        """Send one number; to a process that has ended, it is lost."""
        self.send(str(number).encode())

    def send(self, data: bytes) -> None:
        """Send bytes, for a process that reads its pipe itself, and at all times: this waits while the pipe is full."""
        with suppress(OSError):
            self._pipe.send_bytes(data)

    async def hear(self, within_s: float = START_S) -> dict[str, Any]:
        """The next message: numbers, as its sender named them; errors as `receive`."""
        message: dict[str, Any] = json.loads(await self.receive(within_s))
        return message

    async def receive(self, within_s: float = START_S) -> bytes:
        """The next message, as it came.

        Raises:
            EOFError: the process has ended.
            Disconnected: it says nothing for that long.
        """
        try:
            async with asyncio.timeout(within_s):
                message = await self._inbox.get()
        except TimeoutError:
            raise Disconnected(f"{self.name} said nothing for {within_s:.0f} s") from None
        if isinstance(message, EOFError):
            raise message
        return message

    async def expect(self, name: str, within_s: float = START_S) -> dict[str, Any]:
        """The next message of a process that must not end, with a number of that name among its own.

        Raises:
            Disconnected: it ended, or says nothing for that long.
            MessageError: it says something else.
        """
        try:
            message = await self.hear(within_s)
        except EOFError:
            raise self.ended() from None
        if name not in message:
            raise MessageError(f"{self.name} said {sorted(message)}, expected {name}")
        return message

    def ended(self) -> Disconnected:
        """The error for a process that ended although it should not."""
        self._process.join(START_S)
        code = self._process.exitcode
        return Disconnected(f"{self.name} ended unexpectedly (exit code {code}): {self._last_words()}")

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._hang_up()
        self._process.kill()
        self._process.join()

    def log_tail(self) -> str:
        """The last lines of its log."""
        with suppress(OSError):
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        return ""

    def _last_words(self) -> str:
        return next(iter(self.log_tail().splitlines()[-1:]), "its log is empty")

    def _read(self) -> None:
        try:
            self._inbox.put_nowait(self._pipe.recv_bytes())
        except (EOFError, OSError):
            self._inbox.put_nowait(EOFError(self.name))
            self._hang_up()

    def _hang_up(self) -> None:
        if not self._pipe.closed:
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self._pipe.close()
