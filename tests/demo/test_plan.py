import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.demo import plan
from aggregator.demo.plan import Exit
from aggregator.errors import ParameterError
from aggregator.local.tolerance import tolerance
from aggregator.protocol.parameters import Mode
from aggregator.wire.vocabulary import MASKED_STEPS, Step


def test_more_dropouts_than_the_rounds_tolerate_are_refused() -> None:
    assert len(plan.draw(10, 1, 3, 0)) == 3
    with pytest.raises(ParameterError, match="10 hospitals tolerate at most 3 dropouts"):
        plan.draw(10, 1, 4, 0)


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
    dropouts = data.draw(st.integers(0, tolerance(sites, "hospitals")))
    absences = plan.draw(sites, rounds, dropouts, seed)
    assert len(absences) == rounds * dropouts
    for number in range(1, rounds + 1):
        of_round = plan.of_round(absences, number)
        steps = [absence.step for absence in of_round.values()]
        assert len(of_round) == dropouts
        assert set(of_round) <= set(range(sites))
        before = MASKED_STEPS.index(Step.MASKED_INPUT)
        possible = MASKED_STEPS[:before] if number == plan.hub_round(rounds) else MASKED_STEPS
        assert set(steps) <= set(possible)
        assert len(set(steps)) == min(dropouts, len(possible))


@pytest.mark.parametrize("mode", [Mode.LATTICE, Mode.HOMOMORPHIC])
def test_nobody_whom_a_restarted_hub_would_wait_for_leaves_in_its_round(mode: Mode) -> None:
    for rounds in range(1, 21):
        hub = plan.hub_round(rounds)
        assert 1 <= hub <= rounds
        of_round = plan.of_round(plan.draw(10, rounds, 3, 5, mode), hub)
        assert {one.step for one in of_round.values()} <= {Step.ADVERTISE_KEYS, Step.SHARE_KEYS, Step.COMMIT_INPUT}
    assert plan.hub_round(20) == 7


def test_the_two_exits_alternate() -> None:
    exits = [absence.exit for absence in plan.draw(10, 20, 1, seed=3)]
    assert set(exits[::2]) | set(exits[1::2]) == set(Exit)
    assert len(set(exits[::2])) == len(set(exits[1::2])) == 1


def test_the_plan_is_the_seeds() -> None:
    assert plan.draw(10, 20, 2, seed=1) == plan.draw(10, 20, 2, seed=1)
    assert plan.draw(10, 20, 2, seed=1) != plan.draw(10, 20, 2, seed=2)
    steps = {absence.step for absence in plan.draw(10, 20, 2, seed=1)}
    assert steps == set(MASKED_STEPS)
