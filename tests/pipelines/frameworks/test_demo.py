"""Every pipeline of the demo ends as its help says, and comes to what all records in one place give."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from aggregator.__main__ import app
from aggregator.demo.pipelines import NAMES, named
from aggregator.local.trial import plain

APART = {"mlp": 0.02, "visits": 0.002, "survival": 0.0005}  # from pooled: the first one's sites are alike in nothing


@pytest.mark.parametrize("name", NAMES)
def test_a_pipeline_scores_as_plain_averaging_and_nearly_as_pooled(name):
    result = CliRunner().invoke(app, ["demo", "--pipeline", name, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout.splitlines()[-1])
    assert abs(said["federated"] - said["plain averaging"]) <= said["within"] <= 0.005
    assert abs(said["federated"] - said["pooled"]) <= APART[name]
    assert said["sites"] == len(named(name).sites)


def test_cox_regression_comes_to_the_coefficients_of_pooled_records():
    """Stratified by site, the likelihood of all is the sum of the sites' own: statsmodels has the pooled one."""
    survival = named("survival")
    found = plain(survival.adapter, survival.new, survival.trains(), rounds=200)["log hazard ratios"]
    assert np.allclose(found, survival.pooled()["log hazard ratios"], atol=1e-8)


def test_the_first_model_and_the_trainings_are_the_same_each_time():
    for name in NAMES:
        pipeline = named(name)
        first, again = (pipeline.adapter.flatten(pipeline.new()) for _ in range(2))
        assert all(np.array_equal(array, again[tensor]) for tensor, array in first.items()), name
        ends = [pipeline.adapter.flatten(pipeline.trains()[0](pipeline.new()).model) for _ in range(2)]
        assert all(np.array_equal(array, ends[1][tensor]) for tensor, array in ends[0].items()), name
