"""Who is next: the tasks take turns, and within each it is first come, first served.

So a thousand of one task hold up three of another by one turn each.
"""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """What waits, by task; items are told apart by identity or `==`, whichever they have."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[T]] = {}  # of the tasks that wait, the one whose turn is next first

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._queues.values()))

    def __iter__(self) -> Iterator[T]:
        """All that waits, in the order in which it would be taken."""
        rest = deque(iter(queue) for queue in self._queues.values())
        while rest:
            queue = rest.popleft()
            for item in queue:
                yield item
                rest.append(queue)
                break

    def add(self, task: str, item: T) -> None:
        """To the end of its task's queue."""
        self._queues.setdefault(task, deque()).append(item)

    def remove(self, task: str, item: T) -> None:
        """Out of the queue, wherever it stands; ValueError when it is not there."""
        self._queues[task].remove(item)
        if not self._queues[task]:
            del self._queues[task]

    @property
    def first(self) -> T:
        """Who is next; StopIteration when nobody waits."""
        return next(iter(self._queues.values()))[0]

    def take(self) -> T:
        """The same, taken out; its task goes to the end."""
        task, queue = next(iter(self._queues.items()))
        item = queue.popleft()
        del self._queues[task]
        if queue:
            self._queues[task] = queue
        return item
