"""The one place that says how kernels are compiled: no GIL, explicit signatures, and one cache that processes share.

Cache policy. Numba writes its index before its data and numbers data files by what the index said when it was read, so
two processes that compile one kernel for two types at once can store one type's machine code under the other's name:
in 15 cold starts of six such processes this broke 2 of the next 90 starts.
Hence each compile or load happens under an exclusive lock: the first process compiles, the others wait and read.
The directory is named after a hash of every source file in this package, because Numba itself looks only at the file of
the kernel (not at helpers that it inlines from elsewhere), and because a process killed between index and data would
leave new names on old code. Where no directory can be written, or no file lock exists (Windows), nothing is cached.

Cache files are pickles, hence code: they lie beside this package or in the user's own cache, never in a shared /tmp.
`NUMBA_CACHE_DIR` comes first when set; it must not be writable by others.
"""

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

import numba

if sys.platform != "win32":
    import fcntl

P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE = Path(__file__).parent


def kernel(*signatures: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function for these Numba signatures when its module is imported; it then runs without the GIL.

    Other argument types are refused with TypeError: nothing is ever compiled in the middle of a round. Numba checks no
    array bounds, so a kernel compares the lengths of its arguments itself.
    """

    def compiled(function: Callable[P, R]) -> Callable[P, R]:
        with _locked_cache() as directory:
            result: Callable[P, R] = numba.njit(list(signatures), nogil=True, cache=directory is not None)(function)
        return result

    return compiled


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A helper that kernels call and LLVM folds into them; it is compiled and cached with each kernel."""
    result: Callable[P, R] = numba.njit(nogil=True)(function)
    return result


@contextlib.contextmanager
def _locked_cache() -> Iterator[Path | None]:
    """Point Numba at our cache directory, held alone, while a kernel is compiled or loaded; None: do not cache."""
    with contextlib.ExitStack() as stack:
        directory = _lock_first_usable(stack)
        if directory is not None:
            settings = vars(numba.config)
            stack.callback(settings.update, CACHE_DIR=settings["CACHE_DIR"])
            settings["CACHE_DIR"] = str(directory)
        yield directory


def _lock_first_usable(stack: contextlib.ExitStack) -> Path | None:
    for base in _cache_bases():
        directory = base / f"kernels-{_source_hash()}"
        with contextlib.suppress(OSError):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _lock(stack.enter_context((directory / "lock").open("ab")))
            return directory
    return None


def _lock(file: IO[bytes]) -> None:
    """Wait until this process holds the file alone; closing the file gives it back, and so does a crash."""
    if sys.platform == "win32":
        raise OSError("no flock on this system")
    fcntl.flock(file, fcntl.LOCK_EX)


def _cache_bases() -> list[Path]:
    named = os.environ.get("NUMBA_CACHE_DIR")
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return [*([Path(named)] if named else []), _PACKAGE / "__pycache__", Path(user) / "sangam"]


def _source_hash() -> str:
    sources = hashlib.sha256()
    for path in sorted(_PACKAGE.glob("*.py")):
        sources.update(hashlib.sha256(path.read_bytes()).digest())
    return sources.hexdigest()[:16]
