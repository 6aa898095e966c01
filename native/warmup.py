"""Compile every kernel before the first message; one process does it, then the others only read the cache."""

import importlib
import pkgutil
import time

import native


def warm() -> float:
    """Import every module of this package, which compiles its kernels or loads them; return the seconds it took."""
    start = time.perf_counter()
    for module in pkgutil.iter_modules(native.__path__, prefix="native."):
        importlib.import_module(module.name)
    return time.perf_counter() - start
