"""Strategies that need single updates are refused by name; of one's own, what counts is whose aggregation they run."""

import pytest
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, FedProx, Krum

from aggregator.errors import ParameterError
from clients.adapters.flower import SecureStrategy
from clients.adapters.flower.averaging import AVERAGING, REFUSED, check_averages
from tests.pipelines.flower.stage import PLAN

BASES = {"Strategy", "Result"}


def bare(kind):
    """Of that class, whatever its constructor wants."""
    return object.__new__(kind)


def test_every_strategy_of_this_flower_is_known():
    assert {kind.__name__ for kind in AVERAGING} | set(REFUSED) == set(flower.__all__) - BASES
    assert not {kind.__name__ for kind in AVERAGING} & set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    for averaging in (False, True):
        with pytest.raises(ParameterError, match=rf"^{name} needs single updates.*: .*{REFUSED[name][-20:]}"):
            check_averages(bare(getattr(flower, name)), averaging)


def test_refused_before_any_server_is_called():
    with pytest.raises(ParameterError, match="Krum needs single updates"):
        SecureStrategy(Krum(), PLAN, "nowhere:1", "nobody")


def test_refused_where_it_weighs_by_something_else():
    with pytest.raises(ParameterError, match="weighs by 'patients', the plan by 'num-examples'"):
        SecureStrategy(FedAvg(weighted_by_key="patients"), PLAN, "nowhere:1", "nobody")


@pytest.mark.parametrize("kind", AVERAGING)
def test_averaging_strategies_are_admitted(kind):
    assert check_averages(bare(kind), averaging=False) is None


class Picky(FedProx):
    """Chooses nodes in its own way, and aggregates as ever."""

    def configure_train(self, *args): ...


class Median(FedAvg):
    def aggregate_train(self, *args): ...


class CautiousKrum(Krum):
    def configure_train(self, *args): ...


class Repaired(Krum):
    """No Krum any more: it aggregates anew."""

    def aggregate_train(self, *args): ...


def test_of_ones_own():
    assert check_averages(bare(Picky), averaging=False) is None
    with pytest.raises(ParameterError, match=r"^Median aggregates in its own way: pass averaging=True"):
        check_averages(bare(Median), averaging=False)
    assert check_averages(bare(Median), averaging=True) is None
    with pytest.raises(ParameterError, match=r"^CautiousKrum needs single updates"):
        check_averages(bare(CautiousKrum), averaging=True)
    assert check_averages(bare(Repaired), averaging=True) is None
