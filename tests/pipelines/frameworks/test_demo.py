"""Every pipeline of the demo ends as its help says, and comes to what all records in one place give."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from aggregator.__main__ import app
from aggregator.demo.pipelines import MODULES, named

APART = {
    "mlp": 0.02,
    "xgboost": 0.005,
    "visits": 0.002,
    "survival": 0.0005,
}  # from pooled: the first one's sites are alike in nothing


@pytest.mark.parametrize("name", MODULES)
def test_a_pipeline_scores_as_plain_averaging_and_nearly_as_pooled(name):
    result = CliRunner().invoke(app, ["demo", "--pipeline", name, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout.splitlines()[-1])
    assert abs(said["federated"] - said["twin"]) <= said["within"] <= 0.005
    assert abs(said["federated"] - said["pooled"]) <= APART[name]
    assert said["sites"] == len(named(name).sites)


def test_cox_regression_comes_to_the_coefficients_of_pooled_records():
    """Stratified by site, the likelihood of all is the sum of the sites' own: statsmodels has the pooled one."""
    pipeline = named("survival")
    training = pipeline.twin.__self__
    found = replace(training, rounds=200).plain()["log hazard ratios"]
    assert np.allclose(found, pipeline.pooled()["log hazard ratios"], atol=1e-8)


@pytest.mark.parametrize("name", ["mlp", "visits", "survival"])
def test_the_first_model_and_the_trainings_are_the_same_each_time(name):
    training = named(name).twin.__self__
    flatten = training.adapter.flatten
    first, again = (flatten(training.new()) for _ in range(2))
    assert all(np.array_equal(array, again[tensor]) for tensor, array in first.items())
    ends = [flatten(training.trains()[0](training.new()).model) for _ in range(2)]
    assert all(np.array_equal(array, ends[1][tensor]) for tensor, array in ends[0].items())
