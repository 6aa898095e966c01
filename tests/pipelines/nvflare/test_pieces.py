"""Filter and aggregator as NVFlare calls them, against a real server, without NVFlare's simulator."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind, MetaKey
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FilterKey, FLContextKey, ReservedKey
from nvflare.apis.fl_context import FLContext, FLContextManager
from nvflare.apis.shareable import ReturnCode, make_reply
from nvflare.apis.signal import Signal
from nvflare.apis.utils.task_utils import apply_filters
from nvflare.apis.workspace import Workspace
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.private.fed.app.fl_conf import create_privacy_manager
from nvflare.private.privacy_manager import Scope

import clients
from aggregator.errors import Cancelled, ParameterError, RoundAborted, StaleModel
from clients.adapters.nvflare import Rounds, SecureFilter, SecureModelAggregator, secure
from clients.adapters.nvflare.model import RECEIPT
from clients.examples.nvflare import job

BASE = {"w": np.float32([0.5, -0.5]), "b": np.float64(1.0), "steps": np.int64(7)}
CHANGES = {"site-1": 0.25, "site-2": -0.5, "site-3": 0.125, "site-4": 0.75}
WEIGHTS = {"site-1": 10, "site-2": 20, "site-3": 30, "site-4": 40}


class Engine:
    """What the aggregator needs of NVFlare's."""

    def new_context(self):
        return FLContext()


class Platform:
    """What NVFlare does around filters and aggregator in one job."""

    def __init__(self, hub, sites=4, **changes):
        self.hub, self.task = hub, f"job-{uuid4()}"
        fields = {"sites": sites, "clip": 1.0, "weight_max": 40, "metrics": {"loss": 2.0}} | changes
        rounds = Rounds(hub.address, str(hub.identities / "operator"), self.task, **fields)
        self.aggregator = SecureModelAggregator(rounds)
        self.panics, self.aborted = [], Signal()
        self.aggregator.system_panic = self.panic
        self.aggregator.reset_stats()

    def panic(self, reason, context):
        """NVFlare ends the job, at its server and at the sites."""
        self.panics.append(reason)
        self.end()

    def send(self, base=BASE):
        context = FLContext()
        context.set_prop(ReservedKey.ENGINE, Engine())
        context.set_prop(AppConstants.TRAIN_SHAREABLE, shareable(base))
        self.aggregator.handle_event(AppEventType.BEFORE_TRAIN_TASK, context)

    def end(self):
        self.aborted.trigger(True)
        self.aggregator.handle_event(EventType.END_RUN, FLContext())

    def filter(self):
        return SecureFilter(self.hub.address, str(self.hub.identities / "{site}"), self.task)

    def reply(self, site, base=BASE, result=None):
        return through(self.filter(), site, shareable(base), result or trained(site, base), self.aborted)


def shareable(params, kind=ParamsType.FULL, **fields):
    return FLModelUtils.to_shareable(FLModel(kind, {**params}, current_round=0, **fields))


def trained(site, base=BASE, **changes):
    """A result; all numbers are exact in float32."""
    after = {name: array + CHANGES[site] for name, array in base.items()}
    fields = {"metrics": {"loss": 1.0}, "meta": {"NUM_STEPS_CURRENT_ROUND": WEIGHTS[site]}} | changes
    return shareable(after, **fields)


def through(secure_filter, site, task, result, aborted):
    context = FLContextManager(identity_name=site, job_id="job").new_context()
    context.set_prop(ReservedKey.RUN_ABORT_SIGNAL, aborted, private=True, sticky=False)
    context.set_prop(FLContextKey.FILTER_DIRECTION, FilterKey.IN, private=True, sticky=False)
    assert secure_filter.process(task, context) is task
    context.set_prop(FLContextKey.FILTER_DIRECTION, FilterKey.OUT, private=True, sticky=False)
    return secure_filter.process(result, context)


def mean(sites):
    return np.average([CHANGES[site] for site in sites], weights=[WEIGHTS[site] for site in sites])


def all_at_once(platform, sites):
    with ThreadPoolExecutor(len(sites)) as pool:
        return list(pool.map(platform.reply, sites))


def test_a_round_gives_the_weighted_mean_change_and_leaves_integers_alone(hub):
    platform = Platform(hub)
    platform.send()
    for reply in all_at_once(platform, CHANGES):
        platform.aggregator.accept_model(FLModelUtils.from_shareable(reply))
    result = platform.aggregator.aggregate_model()
    bound = 4 * 1.0 / 32767 * 40 / 100
    assert result.params_type == ParamsType.DIFF
    assert {name: array.dtype for name, array in result.params.items()} == {"w": np.float32, "b": np.float64}
    assert result.params["w"] == pytest.approx([mean(CHANGES)] * 2, abs=bound)
    assert result.params["b"] == pytest.approx(mean(CHANGES), abs=bound)
    assert result.metrics == {"loss": pytest.approx(1.0, abs=2 * bound)}
    assert result.meta["sangam"]["participants"] == list(CHANGES)
    assert platform.panics == []


def test_differences_are_summed_as_they_are(hub):
    platform = Platform(hub, sites=3)
    platform.send()
    with ThreadPoolExecutor(3) as pool:
        sites = list(CHANGES)[:3]
        moved = [{name: np.asarray(CHANGES[site]) + np.zeros_like(BASE[name]) for name in ("w", "b")} for site in sites]
        meta = [{"NUM_STEPS_CURRENT_ROUND": WEIGHTS[site]} for site in sites]
        results = [
            shareable(params, ParamsType.DIFF, metrics={"loss": 0.0}, meta=facts)
            for params, facts in zip(moved, meta, strict=True)
        ]
        list(pool.map(platform.reply, sites, [BASE] * 3, results))
    assert platform.aggregator.aggregate_model().params["w"] == pytest.approx([mean(sites)] * 2, abs=1e-3)


def test_a_site_that_never_comes_is_left_out_when_the_round_has_waited_long_enough(hub):
    platform = Platform(hub, gather_s=1.0)
    platform.send()
    stayed = list(CHANGES)[:3]
    for reply in all_at_once(platform, stayed):
        platform.aggregator.accept_model(FLModelUtils.from_shareable(reply))
    result = platform.aggregator.aggregate_model()
    assert result.params["w"] == pytest.approx([mean(stayed)] * 2, abs=1e-3)
    assert result.meta["sangam"]["participants"] == stayed


def test_too_few_sites_end_the_job_for_all(hub):
    platform = Platform(hub, gather_s=1.0)
    platform.send()
    with ThreadPoolExecutor(2) as pool:
        replies = [pool.submit(platform.reply, site) for site in ("site-1", "site-2")]
        assert [type(reply.exception(timeout=60)) for reply in replies] == [Cancelled, Cancelled]
    assert len(platform.panics) == 1
    assert platform.panics[0].endswith("gathering: 2 sites came, need 3")
    with pytest.raises(RoundAborted, match="2 sites came, need 3"):
        platform.aggregator.aggregate_model()


def test_the_end_of_the_job_frees_a_site_that_waits_and_the_task(hub):
    platform = Platform(hub)
    platform.send()
    with ThreadPoolExecutor(1) as pool, clients.operate_blocking(hub.address, hub.identities / "operator") as operator:
        waiting = pool.submit(platform.reply, "site-1")
        while not any(site.connected for site in operator.sites(platform.task)):
            assert not waiting.done()
        platform.end()
        assert type(waiting.exception(timeout=60)) is Cancelled
        [ended] = operator.rounds(platform.task)
    assert (ended.state, ended.reason) == ("failed", "operator operator aborted the round: NVFlare's job ended")
    assert platform.panics == []


def test_the_end_of_the_job_leaves_a_round_that_has_ended(hub):
    platform = Platform(hub, sites=3)
    platform.send()
    all_at_once(platform, list(CHANGES)[:3])
    platform.aggregator.aggregate_model()
    platform.end()
    assert platform.panics == []


def test_another_model_than_the_site_was_sent_is_refused(hub):
    platform = Platform(hub, sites=3)
    platform.send()
    other = {**BASE, "w": BASE["w"] + 1}
    with ThreadPoolExecutor(3) as pool:
        replies = [pool.submit(platform.reply, site, other) for site in list(CHANGES)[:3]]
    assert {type(reply.exception()) for reply in replies} == {StaleModel}


def test_a_round_that_cannot_start_ends_the_job(hub):
    platform = Platform(hub, sites=9)
    platform.send()
    assert len(platform.panics) == 1
    assert platform.panics[0].startswith("secure aggregation: ParameterError: ")
    with pytest.raises(clients.OutOfTurn, match="no round was started"):
        platform.aggregator.aggregate_model()


def test_weights_in_the_clear_fail_the_round_and_name_the_site(hub):
    platform = Platform(hub)
    platform.send()
    bare = FLModelUtils.from_shareable(trained("site-2"))
    bare.meta["client_name"] = "site-2"
    platform.aggregator.accept_model(bare)
    with pytest.raises(ParameterError, match="no receipt of this round from site-2"):
        platform.aggregator.aggregate_model()
    platform.end()


def test_a_receipt_of_another_round_fails_this_one(hub):
    platform = Platform(hub)
    platform.send()
    platform.aggregator.accept_model(FLModel(ParamsType.DIFF, {RECEIPT: 1}, meta={"client_name": "site-1"}))
    with pytest.raises(ParameterError, match="no receipt of this round from site-1"):
        platform.aggregator.aggregate_model()
    platform.end()


def test_of_a_failed_task_only_its_code_goes_on(hub):
    failed = trained("site-1")
    failed.set_return_code(ReturnCode.EXECUTION_EXCEPTION)
    reply = Platform(hub).reply("site-1", result=failed)
    expected = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    assert dict(reply) == dict(expected)


def encrypted():
    dxo = DXO(DataKind.WEIGHTS, {"w": b"ciphertext"}, {MetaKey.PROCESSED_ALGORITHM: "_HE_ALGORITHM_CKKS_"})
    return dxo.to_shareable()


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (encrypted(), "a filter has made _HE_ALGORITHM_CKKS_ of the weights"),
        (DXO(DataKind.METRICS, {"loss": 1.0}).to_shareable(), "METRICS cannot be summed"),
        (DXO(DataKind.COLLECTION, {}).to_shareable(), "COLLECTION cannot be summed"),
        (shareable({"w": BASE["w"]}), "the result lacks b"),
        (trained("site-1", metrics={"confusion": [[1, 2], [3, 4]]}), "metric 'confusion' is not a number"),
        (trained("site-1", metrics={"note": "good"}), "metric 'note' is not a number"),
        (trained("site-1", meta={"NUM_STEPS_CURRENT_ROUND": 0.5}), "NUM_STEPS_CURRENT_ROUND, the weight, must be"),
        (trained("site-1", meta={"NUM_STEPS_CURRENT_ROUND": -3}), "NUM_STEPS_CURRENT_ROUND, the weight, must be"),
        (trained("site-1", meta={"NUM_STEPS_CURRENT_ROUND": "many"}), "NUM_STEPS_CURRENT_ROUND, the weight, must be"),
        (shareable({"w": "text", "b": 1.0}), "parameter 'w' is <U4"),
    ],
)
def test_what_cannot_be_summed_is_refused_by_name(hub, result, reason):
    with pytest.raises(ParameterError, match=reason):
        Platform(hub).reply("site-1", result=result)


def test_a_site_may_have_the_filter_in_its_own_privacy_policy(hub, tmp_path):
    """As docs/nvflare.md writes it; NVFlare's simulator reads no policies, so its own parts are put together here."""
    platform = Platform(hub, sites=3)
    page = (Path(__file__).parents[3] / "docs" / "nvflare.md").read_text()
    policy = page.partition("```json\n")[2].partition("```")[0]
    for told, real in {
        "hub.example.org:7443": hub.address,
        "/etc/sangam/site": f"{hub.identities}/{{site}}",
        "hearts": platform.task,
    }.items():
        assert told in policy
        policy = policy.replace(told, real)
    (tmp_path / "local").mkdir()
    (tmp_path / "startup").mkdir()
    (tmp_path / "local" / "privacy.json").write_text(policy)
    scope = create_privacy_manager(Workspace(str(tmp_path)), names_only=False).get_scope(None)

    def reply(site):
        context = FLContextManager(identity_name=site, job_id="job").new_context()
        context.set_prop(FLContextKey.SCOPE_OBJECT, scope, private=True, sticky=False)
        apply_filters(Scope.TASK_DATA_FILTERS_NAME, shareable(BASE), context, {}, "train", FilterKey.IN)
        return apply_filters(Scope.TASK_RESULT_FILTERS_NAME, trained(site), context, {}, "train", FilterKey.OUT)

    platform.send()
    with ThreadPoolExecutor(3) as pool:
        for seen in pool.map(reply, list(CHANGES)[:3]):
            assert set(FLModelUtils.from_shareable(seen).params) == {RECEIPT}
            platform.aggregator.accept_model(FLModelUtils.from_shareable(seen))
    assert platform.aggregator.aggregate_model().params["w"] == pytest.approx([mean(list(CHANGES)[:3])] * 2, abs=1e-3)


def test_a_filter_that_is_not_told_of_the_model_says_so(hub):
    context = FLContextManager(identity_name="site-1", job_id="job").new_context()
    context.set_prop(FLContextKey.FILTER_DIRECTION, FilterKey.OUT, private=True, sticky=False)
    with pytest.raises(ParameterError, match="no model came with this task"):
        Platform(hub).filter().process(trained("site-1"), context)


@pytest.mark.parametrize("setting", [{"aggregation_weights": {"site-1": 2.0}}, {"exclude_vars": "head"}])
def test_settings_that_need_single_updates_are_refused_by_name(hub, setting):
    with pytest.raises(ParameterError, match=next(iter(setting))):
        job.secure_recipe("refused", hub.address, hub.identities, **setting)


def test_a_recipe_with_another_aggregator_is_refused(hub):
    with pytest.raises(ParameterError, match="aggregator is NoneType"):
        secure(job.recipe("refused"), Platform(hub).filter())
