"""What a server counts, in real rounds."""

import pytest

from aggregator.errors import NotFound, NotOffered
from aggregator.protocol.parameters import Mode
from aggregator.service.telemetry.metrics import Metrics
from aggregator.service.telemetry.rounds import NOTES, RoundTelemetry
from aggregator.wire.operator_messages import RoundEvent, TaskReference
from aggregator.wire.vocabulary import MASKED_STEPS, EventKind
from tests.consortium import TASK
from tests.loopback import check_mean, hub, offers, parameters, until

N = 4
UPLOAD = "sangam.v1.Aggregation/Upload"


def value(metrics, name, **labels):
    """One sample; nothing was counted where there is none."""
    return metrics.registry.get_sample_value(name, labels) or 0.0


def series(metrics, name):
    """The labels of all samples of one metric."""
    return [sample.labels for family in metrics.registry.collect() if family.name == name for sample in family.samples]


async def test_a_round_with_a_dropout_is_counted_step_by_step(tmp_path):
    offered, spec = offers(N, shape=(5_000,)), parameters((5_000,))
    async with hub(tmp_path, N) as h:
        await h.create(spec)
        metrics = h.running.metrics
        seen = []
        run = await h.run_round(
            offered,
            dies={3: "masked_input"},
            calls={0: lambda step: seen.append(value(metrics, "sangam_rounds_running", mode="pairwise"))},
        )
        check_mean(run, offered, range(3), spec.ring_bits)
        await until(lambda: value(metrics, "sangam_sites_connected") == 0)

    assert seen == [1.0] * len(MASKED_STEPS)
    assert value(metrics, "sangam_rounds_running", mode="pairwise") == 0
    assert value(metrics, "sangam_rounds_started_total", mode="pairwise") == 1
    assert value(metrics, "sangam_rounds_ended_total", mode="pairwise", outcome="closed") == 1
    assert value(metrics, "sangam_round_seconds_count", mode="pairwise") == 1
    answers = [value(metrics, "sangam_answers_total", step=step) for step in MASKED_STEPS]
    assert answers == [4, 4, 3, 3, 3]
    assert value(metrics, "sangam_dropouts_total", step="masked_input", how="dropped") == 1
    assert all(value(metrics, "sangam_step_seconds_count", step=step) == 1 for step in MASKED_STEPS)
    steps_s = sum(value(metrics, "sangam_step_seconds_sum", step=step) for step in MASKED_STEPS)
    assert 0 < steps_s <= value(metrics, "sangam_round_seconds_sum", mode="pairwise")
    assert value(metrics, "sangam_cpu_seconds_total", part="masked_input add") > 0
    payload = spec.upload_plan.payload_bytes
    assert 3 * payload < value(metrics, "sangam_received_bytes_total", method=UPLOAD) < 3.1 * payload
    words = spec.result_plan.payload_bytes
    sent = value(metrics, "sangam_sent_bytes_total", method="sangam.v1.Operator/FetchResult")
    assert words < sent < 1.1 * words + 300
    assert value(metrics, "sangam_calls_total", method=UPLOAD, code="OK") == 3
    assert value(metrics, "sangam_call_seconds_count", method=UPLOAD) == 3
    assert value(metrics, "sangam_staging_bytes") == value(metrics, "sangam_uploads_waiting") == 0


async def test_a_withdrawal_and_a_round_that_fails(tmp_path):
    async with hub(tmp_path, 2) as h:
        await h.create(parameters())
        metrics = h.running.metrics
        await h.run_round(offers(2), refuses={1: "share_keys"})
    assert value(metrics, "sangam_dropouts_total", step="share_keys", how="withdrew") == 1
    assert value(metrics, "sangam_rounds_ended_total", mode="pairwise", outcome="failed") == 1
    assert value(metrics, "sangam_rounds_running", mode="pairwise") == 0


async def test_a_refusal_is_counted_by_its_name_and_a_stranger_by_none(tmp_path):
    async with hub(tmp_path, 2) as h:
        with pytest.raises(NotFound):
            await h.operator.describe_task("nowhere")
        metrics, method = h.running.metrics, "sangam.v1.Operator/DescribeTask"
        assert value(metrics, "sangam_refusals_total", error="NotFound") == 1
        assert value(metrics, "sangam_calls_total", method=method, code="NOT_FOUND") == 1
        before = series(metrics, "sangam_calls")
        with pytest.raises(NotOffered):
            await h.calls.unary("/sangam.v1.Operator/Guess7", TaskReference(TASK), TaskReference)
        assert series(metrics, "sangam_calls") == before, "or a stranger could make as many as it likes"


async def test_sites_are_counted_while_they_are_there(tmp_path):
    async with hub(tmp_path, 3) as h:
        await h.create(parameters())
        metrics = h.running.metrics
        async with h.join(0), h.join(1):
            assert value(metrics, "sangam_sites_connected") == 2
        await until(lambda: value(metrics, "sangam_sites_connected") == 0)


def test_gathering_is_no_step_and_a_round_that_never_opened_ends():
    metrics = Metrics()
    seen = RoundTelemetry(metrics, bytes(32), TASK, 7, Mode.LATTICE)
    seen.happened(RoundEvent(0.0, "gathering", "", "", "", 3))
    assert value(metrics, "sangam_rounds_running", mode="lattice") == 1
    seen.happened(RoundEvent(9.0, "failed", "", "", "gathering: 1 sites came, need 2", 0))
    assert value(metrics, "sangam_rounds_running", mode="lattice") == 0
    assert value(metrics, "sangam_round_seconds_sum", mode="lattice") == 9.0
    assert series(metrics, "sangam_step_seconds") == []


def test_every_kind_of_event_has_words_for_the_log():
    assert set(NOTES) == set(EventKind)
