"""Is `ring.add` as fast as NumPy's in-place add, in cache and beyond it?

Ratio of ring.add to np.add(out=) over the same vectors, alternating in one run. Below 1 means faster than NumPy.
"""

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from native import ring


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@pytest.mark.parametrize(("kibibytes", "pairs"), [(64, 4000), (4_096, 1000), (131_072, 30)])
def test_ring_add_over_numpy(benchmark: BenchmarkFixture, dtype: type, kibibytes: int, pairs: int) -> None:
    """Sizes per vector: second-level cache, third-level cache, memory."""
    entries = kibibytes * 1024 // np.dtype(dtype).itemsize
    total, values = np.ones(entries, dtype), np.full(entries, 3, dtype)
    both: list[tuple[float, float]] = []

    def alternate() -> None:
        ours, theirs = seconds(lambda: ring.add(total, values)), seconds(lambda: np.add(total, values, out=total))
        both.append((ours, theirs))

    benchmark.pedantic(alternate, rounds=pairs, warmup_rounds=2)
    ours, theirs = (median(times) for times in zip(*both[2:], strict=True))
    benchmark.extra_info |= {
        "ring_add_us": ours * 1e6,
        "numpy_us": theirs * 1e6,
        "ratio": median(a / b for a, b in both[2:]),
        "ring_add_GB_per_s": total.nbytes / ours / 1e9,
    }
