import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.demo import plan
from aggregator.demo.plan import Exit
from aggregator.errors import ParameterError
from aggregator.protocol.graph import ThreatModel, degree
from aggregator.wire.vocabulary import Step


@pytest.mark.parametrize(("sites", "tolerated"), [(2, 0), (3, 0), (4, 1), (5, 1), (6, 1), (7, 2), (10, 3), (100, 33)])
def test_tolerance(sites: int, tolerated: int) -> None:
    assert plan.tolerance(sites) == tolerated
    assert len(plan.draw(sites, 1, tolerated, 0)) == tolerated
    with pytest.raises(ParameterError, match=f"tolerate at most {tolerated} dropouts"):
        plan.draw(sites, 1, tolerated + 1, 0)


@pytest.mark.parametrize("sites", range(2, 101))
def test_whoever_vanishes_first_the_rest_meets_the_threshold(sites: int) -> None:
    most = plan.tolerance(sites)
    for before_their_advert in range(most + 1):
        threshold = degree(sites - before_their_advert, sites, ThreatModel()).t
        assert sites - most >= max(threshold, plan.minimum_cohort(sites))


@pytest.mark.parametrize("sites", [-1, 0, 1, 101])
def test_strange_numbers_of_hospitals_are_refused(sites: int) -> None:
    with pytest.raises(ParameterError, match="2 to 100 hospitals"):
        plan.draw(sites, 1, 0, 0)


@pytest.mark.parametrize(("rounds", "dropouts"), [(0, 0), (1, -1)])
def test_nothing_to_run_is_refused(rounds: int, dropouts: int) -> None:
    with pytest.raises(ParameterError, match="at least"):
        plan.draw(10, rounds, dropouts, 0)


@given(sites=st.integers(2, 60), rounds=st.integers(1, 8), seed=st.integers(0, 2**64), data=st.data())
@settings(deadline=None)
def test_each_round_loses_that_many_hospitals_at_different_steps(
    sites: int, rounds: int, seed: int, data: st.DataObject
) -> None:
    dropouts = data.draw(st.integers(0, plan.tolerance(sites)))
    absences = plan.draw(sites, rounds, dropouts, seed)
    assert len(absences) == rounds * dropouts
    for number in range(1, rounds + 1):
        of_round = plan.of_round(absences, number)
        steps = [absence.step for absence in of_round.values()]
        assert len(of_round) == dropouts
        assert set(of_round) <= set(range(sites))
        assert len(set(steps)) == min(dropouts, len(Step))


def test_the_two_exits_alternate() -> None:
    exits = [absence.exit for absence in plan.draw(10, 20, 1, seed=3)]
    assert set(exits[::2]) | set(exits[1::2]) == set(Exit)
    assert len(set(exits[::2])) == len(set(exits[1::2])) == 1


def test_the_plan_is_the_seeds() -> None:
    assert plan.draw(10, 20, 2, seed=1) == plan.draw(10, 20, 2, seed=1)
    assert plan.draw(10, 20, 2, seed=1) != plan.draw(10, 20, 2, seed=2)
    steps = {absence.step for absence in plan.draw(10, 20, 2, seed=1)}
    assert steps == set(Step)
