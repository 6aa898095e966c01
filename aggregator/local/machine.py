"""On what a run was made, without which figures mean nothing; and how much memory this process holds there.

Memory is Linux's VmRSS and VmHWM, what was written its write_bytes; elsewhere nothing is said.
"""

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
_STATUS, _CLEAR, _IO = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/self/io")
_RESET_PEAK = "5"


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


def resident_bytes() -> int:
    """Now; -1 where it is not known."""
    return _status("VmRSS:")


def peak_bytes() -> int:
    """At most, since `reset_peak` or the process's start; -1 where it is not known."""
    return _status("VmHWM:")


def written_bytes() -> int:
    """What this process had the disk write since it began, as far as a file system counts; -1 where it is not known."""
    with suppress(OSError):
        for line in _IO.read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
    return -1


def reset_peak() -> None:
    """Let the peak begin again here, where the system allows it."""
    with suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK)


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


def _status(name: str) -> int:
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return -1
