import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from aggregator.errors import StorageError
from aggregator.rounds.meter import SPREAD, Meter


class Clock:
    """CPU seconds that pass when told to, for each thread its own."""

    def __init__(self) -> None:
        self._here = threading.local()

    def __call__(self) -> float:
        return getattr(self._here, "now", 0.0)

    def work(self, seconds: float) -> None:
        self._here.now = self() + seconds


def test_a_part_counts_its_own_work_and_none_twice() -> None:
    clock = Clock()
    meter = Meter(clock)
    with meter.part("outer"):
        clock.work(1.0)
        with meter.part("inner"):
            clock.work(2.0)
        clock.work(4.0)
    with meter.part("outer"):
        clock.work(8.0)
    assert meter.seconds == {"inner": 2.0, "outer": 13.0}


def test_what_fails_has_cost_something_too() -> None:
    clock = Clock()
    meter = Meter(clock)

    def fail(seconds: float) -> None:
        clock.work(seconds)
        raise StorageError("full")

    with pytest.raises(StorageError):
        meter.run("part", fail, 2.0)
    assert meter.run("part", lambda: 7) == 7
    assert meter.seconds == {"part": 2.0}


@pytest.mark.parametrize("threads", [0, 3])
def test_work_that_was_spread_is_counted_once_wherever_it_ran(threads: int) -> None:
    clock = Clock()
    meter = Meter(clock)

    def square(x: int) -> int:
        clock.work(1.0)
        return x * x

    with ThreadPoolExecutor(threads or 1) as pool, meter.part("step"):
        each = meter.spread(pool.map if threads else map)
        assert list(each(square, range(5))) == [0, 1, 4, 9, 16]
    assert meter.seconds == {SPREAD: 5.0, "step": 0.0}


def test_without_a_clock_nothing_is_counted() -> None:
    meter = Meter()
    meter.run("part", sum, [1, 2])
    assert meter.seconds == {"part": 0.0}
