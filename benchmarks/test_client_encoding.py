"""What does a client pay for encoding its update: exact integers, rounded by a cryptographic stream?

Ratio of `encode` on one thread to what NumPy does in its place, over 10^6 float32 entries: weight, scale, clip, add a
uniform number from NumPy's own generator (not a cryptographic one), floor, offset, convert; float32 all the way, in
place, memory at hand. AES makes 8 bytes per entry for ours. A second figure is for two threads.
"""

import contextlib
import os

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from aggregator.cores import Cores
from aggregator.protocol.encoding import encode
from aggregator.protocol.parameters import Parameters
from aggregator.wire.messages import Tensor
from benchmarks.alternate import Action, alternate

ENTRIES, PAIRS = 1_000_000, 150
CLIP, WEIGHT, WEIGHT_MAX = 1.0, 700, 1000


def in_numpy(values: np.ndarray, parameters: Parameters) -> Action:
    """Stochastic rounding as one writes it with NumPy, without a needless temporary or conversion."""
    rng = np.random.default_rng()
    factor = np.float32(WEIGHT / WEIGHT_MAX / parameters.scale)
    top = np.float32(parameters.zero_point)
    steps, uniform, words = np.empty_like(values), np.empty_like(values), np.empty(values.size, np.uint32)

    def run() -> None:
        np.multiply(values, factor, out=steps)
        np.clip(steps, -top, top, out=steps)
        rng.random(out=uniform, dtype=np.float32)
        np.add(steps, uniform, out=steps)
        np.floor(steps, out=steps)
        np.add(steps, top, out=steps)
        np.copyto(words, steps, casting="unsafe")

    return run


@pytest.mark.parametrize(("threads", "ratio_most"), [(1, 1.0), (2, 0.6)])
def test_encoding_over_numpy(benchmark: BenchmarkFixture, threads: int, ratio_most: float) -> None:
    parameters = Parameters((Tensor("x", (ENTRIES,)),), CLIP, clients_max=1000, minimum_cohort=2, weight_max=WEIGHT_MAX)
    values = np.random.default_rng(1).normal(0.0, 0.3, ENTRIES).astype(np.float32)
    context, seed = os.urandom(32), os.urandom(32)
    with contextlib.closing(Cores(threads)) as cores:
        ours_s, numpy_s, ratio = alternate(
            benchmark,
            lambda: encode({"x": values}, WEIGHT, parameters, context, seed, each=cores.each),
            in_numpy(values, parameters),
            PAIRS,
        )
    benchmark.extra_info |= {
        "encode_ms": ours_s * 1e3,
        "numpy_ms": numpy_s * 1e3,
        "ratio": ratio,
        "rows": [
            (
                f"encoding over NumPy's clip, scale and round on one thread: {ENTRIES:,} float32 entries, "
                f"{threads} thread{'s' if threads > 1 else ''}",
                f"{ratio:.2f} ({ours_s / ENTRIES * 1e9:.2f} ns per entry)",
                f"≤ {ratio_most}",
            )
        ],
    }
