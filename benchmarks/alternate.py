"""Two ways of doing one thing, timed in turn in one run, so that a drifting clock or a busy neighbour cancels."""

import time
from collections.abc import Callable
from statistics import median

from pytest_benchmark.fixture import BenchmarkFixture

Action = Callable[[], object]

WARM_UP = 2


def alternate(benchmark: BenchmarkFixture, ours: Action, theirs: Action, pairs: int) -> tuple[float, float, float]:
    """Median seconds of both, and the median of ours / theirs. Which goes first changes from pair to pair."""
    both: list[tuple[float, float]] = []

    def pair() -> None:
        if len(both) % 2:
            both.append((seconds(ours), seconds(theirs)))
        else:
            second = seconds(theirs)
            both.append((seconds(ours), second))

    benchmark.pedantic(pair, rounds=pairs, warmup_rounds=WARM_UP)
    timed = both[WARM_UP:]
    return median(a for a, _ in timed), median(b for _, b in timed), median(a / b for a, b in timed)


def seconds(action: Action) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
