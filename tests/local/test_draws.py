import pytest

from aggregator.local.draws import departures
from aggregator.wire.vocabulary import MASKED_STEPS


@pytest.mark.parametrize("count", [0, 1, 5, 12, 30])
def test_that_many_leave_spread_over_the_steps(count: int) -> None:
    drawn = departures(7, 1, 30, count)
    assert len({site for site, _ in drawn}) == count
    assert all(0 <= site < 30 for site, _ in drawn)
    by_step = [sum(step is one for _, one in drawn) for step in MASKED_STEPS]
    assert max(by_step) - min(by_step) <= 1


def test_seed_and_round_decide() -> None:
    assert departures(7, 1, 100, 20) == departures(7, 1, 100, 20)
    assert departures(7, 1, 100, 20) != departures(8, 1, 100, 20)
    assert departures(7, 1, 100, 20) != departures(7, 2, 100, 20)
