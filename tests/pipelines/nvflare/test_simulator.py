"""Stock FedAvg in NVFlare's simulator, with and without ours, on the same records from the same model."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from nvflare.app_common.np.constants import NPConstants
from nvflare.recipe import SimEnv

from clients.adapters.nvflare import Rounds, SecureFilter, SecureModelAggregator, secure
from clients.adapters.nvflare.model import RECEIPT
from clients.examples.nvflare import job, train
from tests.pipelines.nvflare.recorder import Recorder

ROUNDS = 3
SITES = ("site-1", "site-2", "site-3")
WEIGHTS = [len(train.records(site)[1]) for site in SITES]
STEP = job.CLIP / (2**15 - 1)
BOUND = len(SITES) * STEP * job.WEIGHT_MAX / sum(WEIGHTS)
"""Each site's entry, times its weight over the largest, is off by less than a step."""

ROUNDING = 1e-6
"""Of float32, in which NVFlare keeps this model, below 1."""


@dataclass(frozen=True)
class Ran:
    workspace: Path
    name: str
    records: Path

    def passed(self, side, site, number):
        return json.loads((self.records / f"{side}-{site}-{number}.json").read_text())

    def model(self, number):
        """What the sites were sent in that round, or what is left after the last."""
        if number == ROUNDS:
            return job.model(self.workspace, self.name)
        sent = [self.passed("client", site, number)["DXO"]["data"][NPConstants.NUMPY_KEY] for site in SITES]
        assert sent[0] == sent[1] == sent[2]
        return np.array(sent[0])

    def accuracies(self):
        lines = next((self.workspace / self.name).glob("server/**/round_metrics.jsonl")).read_text().splitlines()
        metrics = [json.loads(line)["aggregated_metrics"] for line in lines]
        return [value for [(_, value)] in [[one.values() for one in found] for found in metrics]]


def run(recipe, workspace, name):
    records = workspace / f"{name}-records"
    records.mkdir()
    recipe.add_server_input_filter(Recorder(str(records), "server"), tasks=["train"])
    recipe.add_client_input_filter(Recorder(str(records), "client"), tasks=["train"])
    recipe.execute(SimEnv(num_clients=len(SITES), workspace_root=str(workspace)))
    return Ran(workspace, name, records)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run(job.recipe("plain", num_rounds=ROUNDS), tmp_path_factory.mktemp("plain"), "plain")


@pytest.fixture(scope="module")
def secured(tmp_path_factory, hub):
    recipe = job.secure_recipe("secure", hub.address, hub.identities, num_rounds=ROUNDS)
    return run(recipe, tmp_path_factory.mktemp("secure"), "secure")


def averaged(model):
    """One round of federated averaging, in plain float64."""
    return np.average([train.descend(np.float32(model), *train.records(site)) for site in SITES], 0, WEIGHTS)


def test_each_round_is_the_weighted_mean_within_the_quantisation_bound(plain, secured):
    off = {
        ran.name: [np.abs(ran.model(n + 1) - averaged(ran.model(n))).max() for n in range(ROUNDS)]
        for ran in (plain, secured)
    }
    assert max(off["plain"]) < ROUNDING
    assert 0 < min(off["secure"]) <= max(off["secure"]) < BOUND + ROUNDING
    assert 0.1 < np.abs(secured.model(1)).max() < 1


def test_both_trainings_end_together(plain, secured):
    """Descent brings no two models further apart (its steps are below 2 over the curvature), so the bounds add up."""
    apart = np.linalg.norm(plain.model(ROUNDS) - secured.model(ROUNDS))
    assert 0 < apart < ROUNDS * np.sqrt(31) * (BOUND + ROUNDING)


def test_the_bound_that_is_told_is_the_bound(secured):
    told = secured.passed("client", "site-1", 1)["DXO"]["meta"]["sangam"]
    assert told["participants"] == list(SITES)
    assert told["error_bound"] == pytest.approx(BOUND)


def test_metrics_travel_in_the_sum(plain, secured):
    expected = [
        np.average([train.accuracy(secured.model(n), *train.records(site)) for site in SITES], weights=WEIGHTS)
        for n in range(ROUNDS)
    ]
    assert plain.accuracies()[0] == pytest.approx(expected[0])
    assert secured.accuracies() == pytest.approx(expected, abs=BOUND / job.CLIP)


def test_nvflares_server_sees_no_weights_no_metrics_and_no_counts(plain, secured):
    """Whatever stands in a reply is the same for all sites, but for names and numbers of the messages themselves."""
    for number in range(ROUNDS):
        for site, weight in zip(SITES, WEIGHTS, strict=True):
            seen = secured.passed("server", site, number)
            content = seen["DXO"]
            assert set(content["data"]) == {RECEIPT}
            assert isinstance(content["data"][RECEIPT], int)
            assert content["meta"] == {}
            assert set(seen) == set(plain.passed("server", site, number))
            assert not [value for value in numbers(seen) if isinstance(value, float)]
            assert weight not in numbers(seen)
            assert {weight, *train.descend(plain.model(0), *train.records(site))[:1].tolist()} <= set(
                numbers(plain.passed("server", site, 0))
            )


def numbers(value):
    """All numbers in what JSON holds."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for one in value for number in numbers(one)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_the_job_carries_no_copy_of_the_code_that_masks(secured):
    carried = {path.name for path in (secured.workspace / "secure").glob("*/simulate_job/app_*/custom/**/*.py")}
    assert "recorder.py" in carried
    assert carried.isdisjoint({"filter.py", "aggregator.py", "session.py", "encoding.py", "errors.py"})


def test_a_site_that_fails_ends_the_job_for_all(tmp_path, hub, capfd):
    """As in stock FedAvg; and the others do not wait for the hour that a round may gather."""
    script = tmp_path / "failing.py"
    own = Path(train.__file__).read_text()
    begin = "    features, labels = records(flare.get_site_name())\n"
    fails = "    if flare.get_site_name() == 'site-2':\n        labels = None\n"
    assert begin in own
    script.write_text(own.replace(begin, begin + fails))
    made = job.secure_recipe("failing", hub.address, hub.identities, num_rounds=1, train_script=str(script))
    with pytest.raises(RuntimeError, match="Simulation failed"):
        made.execute(SimEnv(num_clients=3, workspace_root=str(tmp_path)))
    said = "".join(capfd.readouterr())
    assert "Result from site-2 is bad" in said
    assert "one of 3 sites" not in said  # whoever waited was let go without a round
    assert not list((tmp_path / "failing").glob("server/**/models/server.npy"))


def test_a_site_that_cannot_contribute_says_why(tmp_path, hub, capfd):
    """Here, all sites report a metric for which the task has no place."""
    rounds = Rounds(hub.address, str(hub.identities / "operator"), "unfit", sites=3, clip=job.CLIP, weight_max=300)
    made = job.recipe("unfit", aggregator=SecureModelAggregator(rounds), num_rounds=1)
    secure(made, SecureFilter(hub.address, str(hub.identities / "{site}"), "unfit"))
    with pytest.raises(RuntimeError, match="Simulation failed"):
        made.execute(SimEnv(num_clients=3, workspace_root=str(tmp_path)))
    said = "".join(capfd.readouterr())
    assert said.count("surplus ['metric.accuracy']") >= 3
    assert "FATAL_SYSTEM_ERROR received: secure aggregation: RoundAborted: round " in said
