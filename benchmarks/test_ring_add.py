"""Is the server's add, `ring.add`, as fast as NumPy's in-place add, in cache and beyond it?"""

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.alternate import alternate
from native import ring

SPEED_LEAST = 0.7


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize(("kibibytes", "pairs"), [(64, 4000), (4_096, 1000), (131_072, 30)])
def test_ring_add_over_numpy(benchmark: BenchmarkFixture, bits: int, kibibytes: int, pairs: int) -> None:
    """Sizes per vector: second-level cache, third-level cache, memory."""
    dtype = ring.word_dtype(bits)
    entries = kibibytes * 1024 // dtype.itemsize
    total, values = np.ones(entries, dtype), np.full(entries, 3, dtype)
    ours_s, numpy_s, ratio = alternate(
        benchmark, lambda: ring.add(total, values), lambda: np.add(total, values, out=total), pairs
    )
    benchmark.extra_info |= {
        "ring_add_us": ours_s * 1e6,
        "numpy_us": numpy_s * 1e6,
        "ratio": ratio,
        "rows": [
            (
                f"speed of the server's add over NumPy's: {entries:,} words of {bits} bits ({kibibytes:,} KiB)",
                f"{1 / ratio:.2f} ({total.nbytes / ours_s / 1e9:.0f} GB/s)",
                f"≥ {SPEED_LEAST}",
            )
        ],
    }
