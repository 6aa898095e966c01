"""What a process that runs until it is stopped notes meanwhile goes where its other words go: to stderr."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

import typer


@contextmanager
def logging_to_stderr(*names: str) -> Iterator[None]:
    """The notes of these loggers, a sentence a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("sangam: %(message)s"))
    loggers = [logging.getLogger(name) for name in names]
    for one in loggers:
        one.addHandler(handler)
        one.setLevel(logging.INFO)
    try:
        yield
    finally:
        for one in loggers:
            one.removeHandler(handler)


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
            typer.echo("sangam: stopping", err=True)
    finally:
        for task in (working, waiting):
            task.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)
