"""What a process that runs until it is stopped notes goes to stderr, of libraries too, written by `loglines`."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from aggregator.config import LogFormat
from aggregator.loglines import JsonLines, TextLines

_LOG = logging.getLogger(__name__)

OURS: Final = ("aggregator", "clients")
LINES: Final = {LogFormat.TEXT: TextLines, LogFormat.JSON: JsonLines}


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes lines, and nothing in the place of one that cannot be written."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name for it
        """Logging's own would print the arguments as they came."""


@contextmanager
def logging_to_stderr(log_format: LogFormat = LogFormat.TEXT) -> Iterator[None]:
    """The notes of ours, and the warnings of libraries, a line each."""
    handler, root = _Stderr(), logging.getLogger()
    handler.setFormatter(LINES[log_format]())
    root.addHandler(handler)
    before = {name: logging.getLogger(name).level for name in OURS}
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


async def until_stopped(work: Awaitable[None]) -> None:
    """Do the work until it has ended, or until Ctrl-C or SIGTERM; its error is raised."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    working, waiting = asyncio.ensure_future(work), asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        else:
            _LOG.info("stopping")
    finally:
        for task in (working, waiting):
            task.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)
