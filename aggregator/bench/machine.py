"""On what a run was made: figures mean nothing without it."""

import asyncio
import os
import platform
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine and what runs on it; `commit` is empty outside of a checkout, with -dirty where files differ."""

    cpu: str
    cores: int
    system: str
    python: str
    sangam: str
    commit: str


async def this() -> Machine:
    """This one."""
    system = f"{platform.system()} {platform.machine()}"
    cores = os.cpu_count() or 1
    return Machine(_cpu(), cores, system, platform.python_version(), version("sangam"), await _commit())


def _cpu() -> str:
    with suppress(OSError):
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


async def _commit() -> str:
    if not (_CHECKOUT / ".git").exists():
        return ""
    words = (
        "--no-optional-locks",
        "-C",
        str(_CHECKOUT),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    )
    try:
        git = await asyncio.create_subprocess_exec("git", *words, stdout=PIPE, stderr=DEVNULL)
    except OSError:
        return ""
    said, _ = await git.communicate()
    return said.decode().strip()
