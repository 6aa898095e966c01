import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from aggregator.bench import report
from aggregator.bench.disk import Disk
from aggregator.bench.outcome import Outcome, PlainRound, SecureRound, end_seconds
from aggregator.bench.settings import Settings
from aggregator.local.machine import Machine
from aggregator.wire.operator_messages import RoundEvent

MIB = 2**20
ASKED = Settings("pairwise", clients=8, entries=1000, bits=16, dropouts=2, repeats=3, client_processes=2)
HERE = Machine("a CPU", 2, "Linux", "3.11", "0.1", "abc")
PLAIN = PlainRound(0.2, exact=True, peak_bytes=130 * MIB, cpu_seconds={"plain add": 0.01})
CPU = {"advertise_keys accept": 5.0, "share_keys finish": 3.0, "masked_input add": 0.5, "spread": 0.25}
STEPS = {"advertise_keys": 1.5, "share_keys": 0.5, "masked_input": 0.7, "consistency_check": 0.1, "unmasking": 0.2}
SECURE = SecureRound(0.3, True, 150 * MIB, CPU, end_s=0.3, step_s=STEPS, sent_bytes=4_100)


def run(*plain: float, secure: tuple[float, ...]) -> Outcome:
    rounds = [replace(PLAIN, stream_s=s) for s in plain], [replace(SECURE, stream_s=s) for s in secure]
    return Outcome(ASKED, HERE, 100 * MIB, *rounds, client_s=0.04)


def test_figures_are_medians_and_the_ratio_is_the_median_of_ratios() -> None:
    figures = run(0.2, 0.1, 0.4, secure=(0.3, 0.3, 0.5)).figures()
    assert figures["plain_stream_s"] == 0.2
    assert figures["secure_stream_s"] == 0.3
    assert figures["stream_ratio"] == pytest.approx(1.5)  # of 1.5, 3.0 and 1.25
    assert figures["bytes_per_value"] == 4.1
    assert figures["server_peak_rss_bytes"] == 50 * MIB
    assert figures["plain_peak_rss_bytes"] == 30 * MIB
    assert (figures["setup_s"], figures["end_of_round_s"], figures["step_s"]) == (2.0, 0.3, STEPS)


def test_the_servers_compute_leaves_the_key_phases_out_and_names_all_parts() -> None:
    figures = run(0.2, secure=(0.3,)).figures()
    assert figures["server_compute_s"] == 0.75
    assert figures["server_compute_parts_s"] == CPU
    assert figures["plain_compute_s"] == 0.01


def test_one_wrong_sum_of_either_kind_is_not_exact() -> None:
    good = run(0.2, 0.2, secure=(0.3, 0.3))
    assert good.exact
    wrong = replace(SECURE, exact=False)
    assert not replace(good, secure=[SECURE, wrong]).exact
    assert not replace(good, plain=[PLAIN, replace(PLAIN, exact=False)]).exact


def durable(*stream_s: float, secure: tuple[float, ...], written: int, disk: Disk) -> Outcome:
    rounds = [replace(SECURE, stream_s=s, written_bytes=written) for s in stream_s]
    return replace(run(*secure, secure=secure), durable=rounds, disk=disk)


def test_the_price_of_durability_is_the_median_of_ratios_beside_the_disk_alone() -> None:
    outcome = durable(0.6, 0.3, 0.5, secure=(0.3, 0.3, 0.4), written=2_000_000, disk=Disk(1e7, 0.002))
    figures = outcome.figures()
    assert (figures["ephemeral_s"], figures["durable_s"]) == (0.3, 0.5)
    assert figures["durable_ratio"] == pytest.approx(1.25)  # of 2.0, 1.0 and 1.25
    assert (figures["ephemeral_round_s"], figures["durable_round_s"]) == pytest.approx((2.3, 2.5))  # with the setup
    assert figures["durable_round_ratio"] == pytest.approx(2.5 / 2.4)
    assert (figures["disk_bytes"], figures["fsync_s"], figures["disk_bound_s"]) == (2_000_000, 0.002, 0.2)
    assert figures["disk_sustains"] is False  # 0.2 s is more than half of 0.3 s
    faster = replace(outcome, disk=Disk(2e7, 0.002)).figures()
    assert (faster["disk_bound_s"], faster["disk_sustains"]) == (0.1, True)
    assert "durable_s" not in run(0.2, secure=(0.3,)).figures()


def test_a_wrong_durable_sum_is_not_exact_and_unknown_bytes_bound_nothing() -> None:
    outcome = durable(0.4, secure=(0.3,), written=-1, disk=Disk(1e7, 0.002))
    figures = outcome.figures()
    assert figures["disk_bytes"] is figures["disk_bound_s"] is figures["disk_sustains"] is None
    assert outcome.exact
    assert not replace(outcome, durable=[replace(SECURE, exact=False)]).exact


def test_the_table_shows_what_durability_costs_and_whether_the_disk_sustains_it() -> None:
    console = Console(file=io.StringIO(), width=120, record=True)
    report.show(console, durable(0.6, secure=(0.3,), written=2_000_000, disk=Disk(1e7, 0.002)))
    text = console.export_text()
    assert "2.00 times without" in text
    assert "does not sustain it" in text
    assert "all 3 sums exact" in text


def test_a_system_that_tells_no_memory_gives_none() -> None:
    unknown = replace(run(0.2, secure=(0.3,)), idle_bytes=-1, secure=[replace(SECURE, peak_bytes=-1)])
    figures = unknown.figures()
    assert figures["server_idle_rss_bytes"] is figures["server_peak_rss_bytes"] is None


def test_the_end_of_a_round_begins_with_the_last_whole_upload() -> None:
    events = [
        RoundEvent(0.0, "step", "advertise_keys", "", "", 4),
        RoundEvent(1.5, "step", "masked_input", "", "", 4),
        RoundEvent(2.0, "answered", "masked_input", "a", "", 0),
        RoundEvent(2.25, "answered", "masked_input", "b", "", 0),
        RoundEvent(2.5, "answered", "unmasking", "a", "", 0),
        RoundEvent(3.0, "closed", "unmasking", "", "", 2),
    ]
    assert end_seconds(events) == 0.75


@pytest.mark.parametrize("secure", [(), (0.3,)], ids=["plain", "secure"])
def test_the_table_says_what_was_compared_and_the_line_is_json(secure: tuple[float, ...]) -> None:
    outcome = run(0.2, secure=secure)
    console = Console(file=io.StringIO(), width=100, record=True)
    report.show(console, outcome)
    text = console.export_text()
    assert "200.0 ms" in text
    assert "a CPU, 2 cores" in text
    assert ("1.50 times the plain sum's" in text) == bool(secure)
    assert "sums exact" in text
    assert json.loads(report.line(outcome)) == outcome.figures()
    bad = replace(outcome, plain=[replace(PLAIN, exact=False)])
    report.show(console, bad)
    assert "NOT every sum was exact" in console.export_text()
