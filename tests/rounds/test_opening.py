"""When a round opens and to whom: the draw, the waiting, and what a task may ask for."""

import asyncio
from collections import Counter
from itertools import combinations

import pytest

from aggregator.errors import ParameterError, RoundAborted
from aggregator.rounds.lines import Lines
from aggregator.rounds.opening import Gathering, below, check_fits, draw, present
from aggregator.wire.operator_messages import Opening
from tests.consortium import Consortium, drbg
from tests.harness import parameters

ROSTER = Consortium.of(5).roster


class Place:
    """Lines, and a clock that the tests move."""

    def __init__(self):
        self.now = 0.0
        self.lines = Lines(lambda: self.now)

    def come(self, *clients):
        return [self.lines.connect(f"site-{client:04}") for client in clients]

    def pass_time(self, seconds):
        self.now += seconds
        self.lines.changed.set()

    def wait(self, gathering):
        return asyncio.create_task(gathering.wait(self.lines, lambda: ROSTER, lambda: self.now))


async def turns():
    for _ in range(10):
        await asyncio.sleep(0)


def gathering(enough=0, sample=0, gather_s=60.0, **changes):
    return Gathering.of(Opening(enough, gather_s, sample), parameters(5, **changes))


def test_a_draw_below_a_bound_throws_away_what_would_favour_the_small():
    """2^64 = 6148914691236517205 * 3 + 1: the one surplus value must not count as a zero."""
    said = iter([b"\xff" * 8, b"\xff" * 7 + b"\xfe"])
    assert below(3, lambda size: next(said)) == 2
    assert next(said, None) is None
    assert [below(1, drbg("one")) for _ in range(3)] == [0, 0, 0]


def test_every_subset_is_drawn_as_often_as_any_other():
    """10 subsets, 5,000 draws: chi squared beyond 27.88 has probability 0.001 at 9 degrees; the seed is fixed."""
    entropy = drbg("draw")
    seen = Counter(frozenset(draw("abcde", 2, entropy)) for _ in range(5_000))
    assert seen.keys() == {frozenset(pair) for pair in combinations("abcde", 2)}
    assert sum((count - 500) ** 2 / 500 for count in seen.values()) < 27.88


def test_who_is_drawn_is_drawn_once_and_all_may_be():
    assert sorted(draw("abcde", 5, drbg("all"))) == list("abcde")
    assert draw("abcde", 0, drbg("none")) == ()


def test_enough_is_at_least_what_is_drawn_and_what_a_sum_needs():
    assert gathering().enough == 0
    assert gathering(enough=1).enough == 2
    assert gathering(enough=2, sample=4).enough == 4
    assert gathering(sample=3, minimum_cohort=3).enough == 3
    assert gathering(enough=5, sample=3).enough == 5


async def test_it_waits_until_enough_have_come():
    place = Place()
    waiting = place.wait(gathering(enough=3))
    place.come(0, 1)
    await turns()
    assert not waiting.done()
    (third,) = place.come(2)
    place.lines.disconnect(third)
    await turns()
    assert not waiting.done(), "who has left is not there"
    place.come(4)
    assert await waiting == {"site-0000", "site-0001", "site-0004"}


async def test_after_its_time_those_who_are_there_do_if_they_are_enough_for_a_sum():
    place = Place()
    place.come(0, 1)
    waiting = place.wait(gathering(enough=4))
    await turns()
    place.pass_time(59.9)
    await turns()
    assert not waiting.done()
    place.pass_time(0.2)
    assert await waiting == {"site-0000", "site-0001"}


async def test_the_wait_has_a_timer_of_its_own():
    place = Place()
    place.come(0, 1)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        assert len(await gathering(enough=4, gather_s=0.01).wait(place.lines, lambda: ROSTER, loop.time)) == 2


async def test_too_few_are_no_round():
    place = Place()
    place.come(0, 1)
    waiting = place.wait(gathering(enough=4, minimum_cohort=3))
    await turns()
    place.pass_time(60.0)
    with pytest.raises(RoundAborted, match="gathering: 2 sites came, need 3"):
        await waiting


def test_who_is_not_in_the_roster_does_not_count():
    place = Place()
    place.come(0, 7)
    assert present(place.lines, ROSTER) == {"site-0000"}


def test_the_sample_is_drawn_from_those_who_came():
    here = frozenset(f"site-{client:04}" for client in (0, 2, 3, 4))
    drawn = [gathering(sample=3).invited(here, drbg("invited", i)) for i in range(20)]
    assert all(len(invited) == 3 and invited < here for invited in drawn)
    assert len(set(drawn)) > 1
    few = frozenset(["site-0000", "site-0002"])
    assert gathering(sample=3).invited(few, drbg("few")) == few
    assert gathering(enough=3).invited(here, drbg("all")) is None


@pytest.mark.parametrize(
    ("opening", "named"),
    [
        (Opening(sample=2), "sample is 2, minimum_cohort is 3 and clients_max is 4"),
        (Opening(sample=5), "sample is 5, minimum_cohort is 3 and clients_max is 4"),
        (Opening(enough=6), "enough is 6, sample is 0: the roster has 5 participants"),
    ],
)
def test_what_no_round_can_meet_is_refused(opening, named):
    with pytest.raises(ParameterError, match=named):
        check_fits(parameters(4, minimum_cohort=3), opening, 5)


def test_what_a_round_can_meet_is_not():
    for opening in (Opening(), Opening(enough=5), Opening(sample=3), Opening(sample=4, enough=5)):
        check_fits(parameters(4, minimum_cohort=3), opening, 5)
    with pytest.raises(ParameterError, match="enough is 0, sample is 4: the roster has 3 participants"):
        check_fits(parameters(4, minimum_cohort=3), Opening(sample=4), 3)
