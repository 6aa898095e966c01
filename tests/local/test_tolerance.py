import pytest

from aggregator.errors import ParameterError
from aggregator.local.tolerance import check_dropouts, minimum_cohort, tolerance
from aggregator.protocol.graph import ThreatModel, degree


@pytest.mark.parametrize(("sites", "tolerated"), [(2, 0), (3, 0), (4, 1), (5, 1), (6, 1), (7, 2), (10, 3), (100, 33)])
def test_tolerance(sites: int, tolerated: int) -> None:
    assert tolerance(sites, "clients") == tolerated
    check_dropouts(sites, tolerated, "clients")
    with pytest.raises(ParameterError, match=f"{sites} clients tolerate at most {tolerated} dropouts"):
        check_dropouts(sites, tolerated + 1, "clients")


@pytest.mark.parametrize(("sites", "tolerated"), [(101, 10), (105, 10), (1_000, 100), (10_000, 1_000)])
def test_above_100_it_is_what_the_threat_model_allows(sites: int, tolerated: int) -> None:
    assert tolerance(sites, "clients", 10_000) == tolerated
    check_dropouts(sites, tolerated, "clients", 10_000)
    with pytest.raises(ParameterError, match=f"{sites} clients tolerate at most {tolerated} dropouts"):
        check_dropouts(sites, tolerated + 1, "clients", 10_000)


@pytest.mark.parametrize("sites", [101, 105, 110, 111, 1_000])
def test_above_100_whoever_vanishes_first_the_rest_is_enough(sites: int) -> None:
    most, threat = tolerance(sites, "clients", 1_000), ThreatModel()
    for before_their_advert in range(most + 1):
        n = sites - before_their_advert
        assert sites - most >= max(degree(n, sites, threat).t, threat.fewest_survivors(n), minimum_cohort(sites))


@pytest.mark.parametrize("sites", range(2, 101))
def test_whoever_vanishes_first_the_rest_meets_the_threshold(sites: int) -> None:
    most = tolerance(sites, "clients")
    for before_their_advert in range(most + 1):
        threshold = degree(sites - before_their_advert, sites, ThreatModel()).t
        assert sites - most >= max(threshold, minimum_cohort(sites))


@pytest.mark.parametrize("sites", [-1, 0, 1, 101])
def test_strange_numbers_are_refused(sites: int) -> None:
    with pytest.raises(ParameterError, match="2 to 100 clients"):
        check_dropouts(sites, 0, "clients")


def test_the_caller_says_how_many_it_can_run() -> None:
    with pytest.raises(ParameterError, match="10001 clients: this runs 2 to 10,000 clients"):
        check_dropouts(10_001, 0, "clients", 10_000)


def test_a_negative_number_of_dropouts_is_refused() -> None:
    with pytest.raises(ParameterError, match="at least 0"):
        check_dropouts(10, -1, "clients")
