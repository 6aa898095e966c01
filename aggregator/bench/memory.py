"""How much memory this process holds, and held at most: Linux's VmRSS and VmHWM; elsewhere nothing is said."""

from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def resident_bytes() -> int:
    """Now; -1 where it is not known."""
    return _read("VmRSS:")


def peak_bytes() -> int:
    """At most, since `reset_peak` or the process's start; -1 where it is not known."""
    return _read("VmHWM:")


def reset_peak() -> None:
    """Let the peak begin again here, where the system allows it."""
    with suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK)


def _read(name: str) -> int:
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return -1
