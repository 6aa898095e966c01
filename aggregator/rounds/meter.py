"""What a round costs the server in CPU seconds, by part. Two readings of a clock per part: negligible.

Parts are named "step verb", as "masked_input receive" or "unmasking finish"; what `each` gave to other threads is
under "spread". Transport, parsing and waiting are in none.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock, local
from typing import TypeVar

from aggregator.protocol.spread import Each

SPREAD = "spread"

T = TypeVar("T")
R = TypeVar("R")


def stopped_clock() -> float:
    """The clock of who does not want to know."""
    return 0.0


class Meter:
    """CPU seconds of one round.

    Args:
        clock: CPU seconds of the thread that asks, as `time.thread_time`.
    """

    def __init__(self, clock: Callable[[], float] = stopped_clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._here = local()

    @property
    def seconds(self) -> Mapping[str, float]:
        """By part, so far; a copy."""
        with self._lock:
            return dict(self._seconds)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block, which must not leave its thread, nor await. A part within a part counts for itself only."""
        around = getattr(self._here, "name", "")
        self._here.name = name
        start = self._clock()
        try:
            yield
        finally:
            spent = self._clock() - start
            self._here.name = around
            with self._lock:
                self._seconds[name] += spent
                if around:
                    self._seconds[around] -= spent

    def run(self, name: str, function: Callable[..., R], *arguments: object) -> R:
        """Call a function as a part; for other threads."""
        with self.part(name):
            return function(*arguments)

    def spread(self, each: Each) -> Each:
        """The same `each`, with the work of its threads counted."""

        def counted(function: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
            return each(lambda item: self.run(SPREAD, function, item), items)

        return counted
