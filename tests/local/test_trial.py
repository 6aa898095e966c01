"""A training tried out on one machine is what plain averaging gives."""

import numpy as np
import pytest

from aggregator.errors import ParameterError
from aggregator.local.trial import plain, try_out
from clients.adapters.arrays import Arrays
from clients.training import OperatorWatch, Trained

RECORDS = (5, 10, 20)
TARGETS = np.random.default_rng(5).uniform(-1, 1, (3, 6))


def new():
    return {"w": np.zeros(6)}


def trains():
    def at(site):
        def train(model):
            return Trained({"w": (model["w"] + TARGETS[site]) / 2}, RECORDS[site], {"norm": np.abs(model["w"]).max()})

        return train

    return [at(site) for site in range(3)]


async def test_a_trial_is_plain_averaging_up_to_quantisation():
    metrics = []

    class Seen(OperatorWatch):
        def ended(self, line, shared):
            metrics.append((line.sites, line.metrics["norm"]))

    models = await try_out(
        Arrays(),
        new,
        trains(),
        rounds=3,
        clip=1.0,
        weight_max=20,
        metrics={"norm": 1.0},
        watch=Seen(),
        value_bits=30,
    )
    twin = plain(Arrays(), new, trains(), rounds=3)
    assert all(np.array_equal(model["w"], models[0]["w"]) for model in models)
    assert 0 < np.abs(models[0]["w"] - twin["w"]).max() < 1e-7
    expected = np.average(TARGETS, axis=0, weights=RECORDS) * (1 - 1 / 8)
    assert np.allclose(twin["w"], expected)
    assert [sites for sites, _ in metrics] == [3, 3, 3]
    norms = [norm for _, norm in metrics]
    assert norms[0] == pytest.approx(0.0, abs=1e-6)
    assert norms[0] < norms[1] < norms[2]


async def test_an_error_of_a_site_ends_the_trial_with_its_name():
    def broken(model):
        raise ParameterError("this site has no records")

    with pytest.raises(ExceptionGroup) as raised:
        await try_out(Arrays(), new, [*trains()[:2], broken], rounds=1, clip=1.0, weight_max=20, metrics={"norm": 1.0})
    assert raised.group_contains(ParameterError, match="this site has no records")
