"""Who has room in the staging and who is told to come back: the clock is the test's."""

from contextlib import ExitStack

import numpy as np
import pytest

from aggregator.errors import Overloaded
from aggregator.service.admission import GONE_S, LATE, LATE_S, SLOW_S, WAIT_LEAST_S, WAIT_MOST_S, Admission, Pace


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


class Half:
    """One upload, and how the round would answer for it."""

    def __init__(self):
        self.expected, self.held, self.error = True, False, None

    def is_expected(self):
        return self.expected

    def is_held(self):
        return self.held

    def give_way(self, error):
        self.held, self.error = False, error


class Hall:
    """An admission with streams that open and close as the test says."""

    def __init__(self, budget_bytes):
        self.clock = Clock()
        self.admission = Admission(budget_bytes, self.clock)
        self.halves, self.streams = {}, {}

    def come(self, key, size=10, task="sepsis"):
        """Come; how long to wait, None for none."""
        half = Half()
        stack = ExitStack()
        try:
            place = stack.enter_context(self.admission.room(task, key, size, half))
        except Overloaded as error:
            return error.retry_after_s
        self.halves[key], self.streams[key] = half, (stack, place)
        return None

    def begin(self, key):
        self.halves[key].held = True
        self.streams[key][1].begins()

    def chunk(self, key, number=1):
        self.begin(key)
        self.streams[key][1].reached(number)

    def breaks(self, key):
        self.streams.pop(key)[0].close()

    def whole(self, key):
        self.streams[key][1].rests()
        self.halves[key].held = False
        self.halves[key].expected = False
        self.breaks(key)


def test_as_many_as_the_budget_holds_and_the_next_one_is_told_to_come_back():
    hall = Hall(20)
    assert (hall.come("a"), hall.come("b")) == (None, None)
    assert hall.come("c") == WAIT_LEAST_S, "10 bytes are soon gone"
    assert (hall.admission.reserved_bytes, hall.admission.waiting) == (20, 1)
    hall.whole("a")
    assert hall.come("c") is None
    assert (hall.admission.reserved_bytes, hall.admission.waiting) == (20, 0)


def test_one_alone_may_be_larger_than_the_whole():
    hall = Hall(20)
    assert hall.come("a", 99) is None
    assert hall.come("b", 1) is not None
    hall.whole("a")
    assert hall.come("b", 1) is None


def test_room_that_becomes_free_waits_for_who_is_next_and_nobody_overtakes():
    hall = Hall(10)
    hall.come("a")
    wait_s = hall.come("b")
    hall.whole("a")
    assert hall.come("c") is not None, "the room is b's"
    hall.clock.now += wait_s * LATE + LATE_S - 0.1
    assert hall.come("c") is not None
    assert hall.come("b") is None, "in time"


def test_a_place_is_kept_no_longer_than_told():
    hall = Hall(10)
    hall.come("a")
    wait_s = hall.come("b")
    hall.whole("a")
    assert hall.come("c") is not None
    hall.clock.now += wait_s * LATE + LATE_S
    assert hall.come("c") is None
    assert hall.come("b") is not None, "it came too late, and begins at the end"


def test_who_comes_too_often_gains_nothing():
    hall = Hall(10)
    hall.come("a")
    for _ in range(50):
        assert hall.come("b") is not None
    assert hall.come("c") is not None
    assert hall.admission.waiting == 2
    hall.whole("a")
    assert hall.come("c") is not None
    assert hall.come("b") is None


def test_tasks_take_turns():
    hall = Hall(10)
    hall.come("first")
    for name in "pqr":
        hall.come(name, task="crowd")
    hall.come("few", task="few")
    order, before = [], "first"
    for _ in range(4):
        hall.whole(before)
        (before,) = [name for name in ("p", "q", "r", "few") if name not in order and hall.come(name, task="x") is None]
        order.append(before)
    assert order == ["p", "few", "q", "r"]


def test_an_upload_whose_stream_is_gone_keeps_its_room_until_others_need_it():
    hall = Hall(10)
    hall.come("a")
    hall.chunk("a")
    hall.breaks("a")
    first = hall.halves["a"]
    hall.clock.now += GONE_S + 1
    assert hall.come("a") is None, "nobody else came: it goes on where it was"
    hall.chunk("a")
    hall.breaks("a")
    hall.clock.now += GONE_S - 1
    assert hall.come("b") is not None
    assert (first.error, hall.halves["a"].error) == (None, None)
    hall.clock.now += 1
    assert hall.come("b") is None
    assert type(hall.halves["a"].error) is Overloaded
    assert hall.come("a") is not None


def test_one_that_broke_before_anything_was_staged_leaves_no_room_behind():
    hall = Hall(10)
    hall.come("a")
    hall.breaks("a")
    assert hall.admission.reserved_bytes == 0
    assert hall.come("b") is None


def test_a_newer_stream_takes_the_room_over_and_the_older_ends_without_it():
    hall = Hall(10)
    hall.come("a")
    hall.chunk("a")
    older, _ = hall.streams["a"]
    assert hall.come("a") is None
    older.close()
    assert hall.admission.reserved_bytes == 10
    hall.whole("a")
    assert hall.admission.reserved_bytes == 0


def test_a_slow_upload_gives_way_and_goes_to_the_end():
    hall = Hall(10)
    hall.come("slow")
    hall.chunk("slow")
    hall.clock.now += SLOW_S - 1
    assert hall.come("b") is not None
    assert hall.halves["slow"].error is None
    hall.clock.now += 1
    assert hall.come("b") is None
    error = hall.halves["slow"].error
    assert "brought no chunk within 20 s while others waited" in str(error)
    assert WAIT_LEAST_S <= error.retry_after_s <= WAIT_MOST_S
    hall.breaks("slow")
    assert hall.come("c") is not None
    hall.whole("b")
    assert hall.come("c") is not None, "slow stands before it"
    assert hall.come("slow") is None


@pytest.mark.parametrize("act", [Hall.begin, Hall.chunk])
def test_who_begins_again_and_again_does_not_move(act):
    hall = Hall(10)
    hall.come("again")
    for _ in range(5):
        act(hall, "again")
        assert hall.come("again") is None
        hall.clock.now += SLOW_S / 5
    assert hall.come("b") is None
    assert type(hall.halves["again"].error) is Overloaded


def test_where_all_are_slow_nobody_is():
    """A server that is itself too slow for its sites would else send one after the other to the end."""
    hall = Hall(20)
    for key in range(100):
        hall.come(key)
        hall.begin(key)
        hall.clock.now += SLOW_S - 1
        hall.chunk(key)
        hall.whole(key)
    hall.come("a")
    hall.come("b")
    hall.begin("a")
    hall.clock.now += 1.5 * SLOW_S
    assert hall.come("c") is not None
    assert hall.halves["a"].error is None
    hall.clock.now += SLOW_S
    assert hall.come("c") is None
    assert type(hall.halves["a"].error) is Overloaded


def test_who_drips_does_not_raise_the_bar_for_being_slow_without_end():
    pace = Pace()
    for seconds in [SLOW_S - 1] * 100 + [3 * SLOW_S] * 100:
        pace.note(seconds)
        assert SLOW_S <= pace.slow_s <= 2 * SLOW_S


def test_who_moves_keeps_its_room():
    hall = Hall(10)
    hall.come("a")
    for number in range(1, 6):
        hall.chunk("a", number)
        hall.clock.now += SLOW_S - 1
        assert hall.come("b") is not None
    assert hall.halves["a"].error is None


def test_slow_is_measured_from_its_turn_on_and_not_while_the_sum_takes_it():
    hall = Hall(20)
    hall.come("has no turn yet")
    hall.come("whole")
    hall.chunk("whole")
    hall.streams["whole"][1].rests()
    hall.clock.now += 10 * SLOW_S
    assert hall.come("c") is not None
    assert [half.error for half in hall.halves.values()] == [None, None]


def test_places_of_a_step_that_is_over_are_forgotten():
    hall = Hall(10)
    hall.come("a")
    hall.chunk("a")
    stale = Half()
    with pytest.raises(Overloaded), hall.admission.room("sepsis", "b", 10, stale):
        pass
    hall.halves["a"].expected = stale.expected = False
    assert hall.come("of the next round") is None
    assert hall.admission.waiting == 0


def test_how_long_to_wait_follows_what_is_before_and_how_fast_room_becomes_free():
    hall = Hall(100_000_000)
    hall.come("a", 100_000_000)
    hall.clock.now += 10
    hall.whole("a")  # ten million bytes a second
    hall.come("b", 100_000_000)
    assert hall.come("c", 50_000_000) == pytest.approx(5 / 2)
    assert hall.come("d", 100_000_000) == pytest.approx(15 / 2)
    assert hall.come("e", 10**12) == WAIT_MOST_S


@pytest.mark.parametrize("seed", range(3))
def test_of_hundred_clients_a_tenth_of_them_hostile_all_others_are_served(seed):
    """Hostile: comes, takes room, and brings nothing. Honest: comes back when told, and is whole after a second."""
    rng, hall = np.random.default_rng(seed), Hall(50)
    due = {key: hall.clock.now + rng.random() for key in range(100)}
    served, hostile, begun = set(), set(range(0, 100, 10)), {}
    while len(served | hostile) < 100:
        hall.clock.now += 0.1
        for key in [key for key, since in begun.items() if since + 1 <= hall.clock.now]:
            hall.whole(key)
            served.add(key)
            del begun[key]
        for key in [key for key, at in due.items() if at <= hall.clock.now]:
            wait_s = hall.come(key)
            due[key] = hall.clock.now + (wait_s * rng.uniform(1, LATE) if wait_s else 1e9)
            if wait_s is None:
                hall.chunk(key)
            if wait_s is None and key not in hostile:
                begun[key] = hall.clock.now
            assert wait_s is None or WAIT_LEAST_S <= wait_s <= WAIT_MOST_S
        assert hall.admission.reserved_bytes <= 50
        assert hall.clock.now < 1_000 + 300
    assert served == set(range(100)) - hostile
