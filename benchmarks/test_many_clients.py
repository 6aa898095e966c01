"""Do 1,000 clients complete a round over the network on this machine, within the deadlines that an operator gets?

One run of `sangam bench` in each mode: a real server process, 1,000 sessions under certificates of their own in two
processes, gRPC over mutual TLS. Server and clients share this machine's cores, and the clients' journals its disk.
"""

from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from aggregator.protocol.parameters import Mode
from benchmarks.command import sangam_bench

CLIENTS, ENTRIES, DROPOUTS = 1_000, 100_000, 50
STEP_MOST_S = 120  # the shortest of the default deadlines


@pytest.mark.parametrize("mode", [Mode.LATTICE, Mode.PAIRWISE])
def test_a_round_of_a_thousand_clients(benchmark: BenchmarkFixture, mode: Mode) -> None:
    found = sangam_bench(
        benchmark, mode=mode, clients=CLIENTS, entries=ENTRIES, dropouts=DROPOUTS, repeats=1
    )  # exact, or it fails
    benchmark.extra_info["rows"] = rows(mode, found)


def rows(mode: Mode, found: dict[str, Any]) -> list[tuple[str, str, str]]:
    work = f"{mode}, {CLIENTS:,} clients of {ENTRIES:,} values, {DROPOUTS} vanish"
    steps = found["step_s"]
    by_step = ", ".join(f"{step.replace('_', ' ')} {seconds:.0f}" for step, seconds in steps.items())
    return [
        (f"{work}: completed and exact, the whole round", f"{sum(steps.values()):.0f} s", ""),
        (f"{work}: the longest step ({by_step})", f"{max(steps.values()):.0f} s", f"≤ {STEP_MOST_S}"),
        (f"{work}: server's peak memory above idle", f"{found['server_peak_rss_bytes'] / 2**20:.0f} MiB", ""),
        (f"{work}: CPU of the server's own code behind the key phases", f"{found['server_compute_s']:.1f} s", ""),
    ]
