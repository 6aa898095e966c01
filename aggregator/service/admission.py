"""Room for uploads: so many declared bytes may be half arrived at once. Who comes beyond is told when to come back.

Room is in the staging, and an upload holds it across its streams, from its admission until it is whole; a turn
(`turns`) is on the line, and lasts for seconds. Both go round by task. Who is told to come back keeps its place, and
room that becomes free waits for who is next, so nobody starves and nobody gains by coming more often. A place is one
member's upload in one step of one round: who is in no such step has none, and nobody has two. Nothing here runs by
itself: who comes and finds no room looks who holds it in vain.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Final, Protocol

from aggregator.errors import Overloaded
from aggregator.service.fair_queue import FairQueue

SLOW_S: Final = 20.0  # without a chunk, which has 1 MiB: slower than 52 KiB/s ...
SLOWER: Final = 4.0  # ... and than others by so much, or a server that is slow itself would send all to the end
SLOWEST_S: Final = 2 * SLOW_S  # whatever the others do: who drips must not raise the bar for good
SMOOTHING: Final = 16  # chunks, over which the others' time is averaged
GONE_S: Final = 5.0  # without a stream; a client whose line broke comes back within two
WAIT_LEAST_S: Final = 0.5
WAIT_MOST_S: Final = 30.0
LATE: Final = 1.25  # a client comes up to a quarter later than it was told ...
LATE_S: Final = 5.0  # ... and may have to connect anew
RATE_OVER_S: Final = 10.0
RATE_UNKNOWN: Final = float(8 << 20)  # bytes a second, before anything was whole: a line of 67 Mbit/s


class Half(Protocol):
    """One stream's upload, as the round knows it."""

    def is_expected(self) -> bool:
        """Whether the step is open, and this member's input has not arrived."""

    def is_held(self) -> bool:
        """Whether something of it is staged."""

    def give_way(self, error: Overloaded) -> None:
        """Destroy what is staged of it, and end its stream, if it has one, with this error."""


class Pace:
    """How long a chunk takes of late, all uploads together."""

    def __init__(self) -> None:
        self._mean_s = 0.0

    def note(self, seconds: float) -> None:
        """One chunk took so long; one that was slow itself raises no bar for others."""
        if seconds > SLOW_S:
            return
        self._mean_s += (seconds - self._mean_s) / SMOOTHING

    @property
    def slow_s(self) -> float:
        """An upload without a chunk for so long is slow."""
        return min(max(SLOW_S, SLOWER * self._mean_s), SLOWEST_S)


@dataclass(slots=True, eq=False)
class Place:
    """Where one upload stands: it waits, or has room; it has a stream, or not.

    `until` is how long the place is kept without a stream, and `moved_at` when it came further than ever before, both
    on the clock; None while nothing is expected to arrive. What begins again does not move.
    """

    task: str
    key: Hashable
    payload_bytes: int
    half: Half
    clock: Callable[[], float] = field(repr=False)
    pace: Pace = field(repr=False)
    has_room: bool = False
    streams: bool = False
    until: float = inf
    moved_at: float | None = None
    chunks: int = 0

    def begins(self) -> None:
        """Chunks may come from now on."""
        if self.moved_at is None:
            self.moved_at = self.clock()

    def reached(self, chunks: int) -> None:
        """So many chunks have arrived."""
        if chunks > self.chunks:
            now = self.clock()
            self.pace.note(now - self.moved_at if self.moved_at is not None else 0.0)
            self.chunks, self.moved_at = chunks, now

    def rests(self) -> None:
        """Nothing more will come: it is whole, and waits for the sum."""
        self.moved_at = None


class Admission:
    """Who has room, and who waits for it.

    Args:
        budget_bytes: declared bytes of all uploads that have room; one alone may be larger.
        clock: seconds, monotonic.
    """

    def __init__(self, budget_bytes: int, clock: Callable[[], float]) -> None:
        self._budget_bytes = budget_bytes
        self._clock = clock
        self._pace = Pace()
        self._places: dict[Hashable, Place] = {}
        self._queue: FairQueue[Place] = FairQueue()
        self._reserved_bytes = 0
        self._busy_since = 0.0
        self._drained: deque[tuple[float, int]] = deque()

    @property
    def reserved_bytes(self) -> int:
        """Of all uploads that have room."""
        return self._reserved_bytes

    @property
    def waiting(self) -> int:
        """How many uploads wait for room."""
        return sum(not place.has_room for place in self._places.values())

    @contextmanager
    def room(self, task: str, key: Hashable, payload_bytes: int, half: Half) -> Iterator[Place]:
        """Room for one upload; a stream that breaks leaves it to the next one, unless others need it meanwhile.

        Args:
            task: whose upload it is.
            key: whose place; a newer stream of the same upload takes it over.
            payload_bytes: of the whole upload, as the round has it.
            half: the upload of this stream.

        Raises:
            Overloaded: there is none now; says when to come back.
        """
        place = self._admitted(task, key, payload_bytes, half)
        place.half, place.streams = half, True
        try:
            yield place
        finally:
            if place.half is half and self._places.get(key) is place:
                self._leave(place)

    def _admitted(self, task: str, key: Hashable, payload_bytes: int, half: Half) -> Place:
        place = self._places.get(key)
        if place is None:
            place = self._queued(Place(task, key, payload_bytes, half, self._clock, self._pace))
        place.until = inf  # it is here
        self._call()
        if not place.has_room:
            self._give_up_the_idle()
        if not place.has_room:
            raise self._later(place)
        return place

    def _queued(self, place: Place) -> Place:
        self._places[place.key] = place
        self._queue.add(place.task, place)
        return place

    def _call(self) -> None:
        """Give room to who is next, as many as there is room for."""
        while self._queue and self._fits(self._queue.first.payload_bytes):
            place = self._queue.take()
            if not self._reserved_bytes and not self._drained:
                self._busy_since = self._clock()
            place.has_room = True
            self._reserved_bytes += place.payload_bytes

    def _fits(self, payload_bytes: int) -> bool:
        return not self._reserved_bytes or self._reserved_bytes + payload_bytes <= self._budget_bytes

    def _leave(self, place: Place) -> None:
        """A stream has ended, somehow."""
        if place.half.is_held():
            place.streams, place.until = False, self._clock() + GONE_S
        else:
            self._forget(place)

    def _forget(self, place: Place) -> None:
        del self._places[place.key]
        if place.has_room:
            self._reserved_bytes -= place.payload_bytes
            self._drained.append((self._clock(), place.payload_bytes))
        else:
            self._queue.remove(place.task, place)
        self._call()

    def _give_up_the_idle(self) -> None:
        """Take room and places from uploads that are not expected any more, are gone, or move too slowly."""
        now = self._clock()
        for place in tuple(self._places.values()):
            if not place.half.is_expected():
                self._forget(place)
            elif not place.streams and place.until <= now:
                self._forget(place)
                if place.has_room:
                    place.half.give_way(Overloaded("nothing came of this upload while others waited"))
            elif place.streams and place.moved_at is not None and place.moved_at + self._pace.slow_s <= now:
                self._send_to_the_end(place)

    def _send_to_the_end(self, place: Place) -> None:
        self._forget(place)
        again = self._queued(Place(place.task, place.key, place.payload_bytes, place.half, self._clock, self._pace))
        later = self._later(again, f"this upload brought no chunk within {self._pace.slow_s:g} s while others waited; ")
        place.half.give_way(later)

    def _later(self, place: Place, why: str = "") -> Overloaded:
        """The refusal of one that waits, which keeps its place until it should be back."""
        wait_s = self._wait_s(place)
        place.until = self._clock() + LATE * wait_s + LATE_S
        waiting = f"{self._reserved_bytes} bytes of uploads are on their way here and {self.waiting} uploads wait"
        return Overloaded(f"{why}{waiting}: come back in {wait_s:.1f} s, the place is kept", wait_s)

    def _wait_s(self, place: Place) -> float:
        """Half of the time until its room should be free, by what is before it and how fast room became free of late.

        Half, since room that is kept for who comes too late lies idle; who comes too early is told again, for less.
        """
        needed = self._reserved_bytes - self._budget_bytes
        for other in self._queue:
            needed += other.payload_bytes
            if other is place:
                break
        return min(max(needed / self._rate() / 2, WAIT_LEAST_S), WAIT_MOST_S)

    def _rate(self) -> float:
        """Bytes a second."""
        now = self._clock()
        while self._drained and self._drained[0][0] < now - RATE_OVER_S:
            self._drained.popleft()
        drained = sum(payload_bytes for _, payload_bytes in self._drained)
        span_s = min(max(now - self._busy_since, WAIT_LEAST_S), RATE_OVER_S)
        return drained / span_s if drained else RATE_UNKNOWN
