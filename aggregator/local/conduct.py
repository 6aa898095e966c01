"""A command's main job, from its start to its exit status: what `sangam demo`, `bench` and `simulate` share."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from rich.console import Console

from aggregator.local.processes import end_gently

INTERRUPTED = 130  # as a shell reports a process that Ctrl-C ended


class Outcome(Protocol):
    """What a job ends with."""

    @property
    def exact(self) -> bool:
        """Whether every sum was exact."""


Done = TypeVar("Done", bound=Outcome)
Shown_contra = TypeVar("Shown_contra", bound=Outcome, contravariant=True)


class Report(Protocol[Shown_contra]):
    """How an outcome is told; a module can be one."""

    def show(self, console: Console, outcome: Shown_contra, /) -> None:
        """To people."""

    def line(self, outcome: Shown_contra, /) -> str:
        """To programs: one JSON object."""


def conduct(job: Coroutine[Any, Any, Done], report: Report[Done], console: Console, *, as_json: bool) -> int:
    """Run a job and tell its outcome on stdout; with `as_json` its tables go to the console, and a line ends stdout.

    Returns:
        The exit status: 0 if every sum was exact, 1 if not, 130 if the user ended the job.
    """
    gc.freeze()  # looking through all that was imported once more, at exit, would take a second
    end_gently()
    try:
        outcome = asyncio.run(job)
    except KeyboardInterrupt:
        console.print("Interrupted: all processes have ended, all keys and files are gone.")
        return INTERRUPTED
    stdout = Console()
    report.show(console if as_json else stdout, outcome)
    if as_json:
        stdout.file.write(f"{report.line(outcome)}\n")
    return 0 if outcome.exact else 1
