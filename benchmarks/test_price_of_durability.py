"""What does it cost that a killed server goes on where it was?

One run of `sangam bench --durable`: the same lattice round in turn on a server that keeps nothing and on one that
writes everything down, on this machine's cores and one disk, which is then measured by itself. The target counts where
the disk sustains the round: it alone takes at most half of the ephemeral round's time. docs/bench.md says how.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.command import sangam_bench

RATIO_MOST = 1.4
SHAPES = [(32, 1_000_000, 3, 5), (32, 100_000, 3, 7), (10, 10_000_000, 1, 3), (100, 10_000, 9, 5)]


@pytest.mark.parametrize(("clients", "entries", "dropouts", "repeats"), SHAPES)
def test_price_of_durability(
    benchmark: BenchmarkFixture, clients: int, entries: int, dropouts: int, repeats: int
) -> None:
    found = sangam_bench(
        benchmark, "--durable", mode="lattice", clients=clients, entries=entries, dropouts=dropouts, repeats=repeats
    )
    work = f"lattice, {clients} clients of {entries:,} values, {dropouts} vanish"
    target = f"≤ {RATIO_MOST}" if found["disk_sustains"] else ""
    benchmark.extra_info["rows"] = [
        _row(f"{work}: first byte to sum, durable over ephemeral", found, "", target),
        _row(f"{work}: the whole round, durable over ephemeral", found, "round_", target),
        (
            f"{work}: the disk alone, {'which sustains it' if found['disk_sustains'] else 'which does not sustain it'}",
            f"{found['disk_bound_s'] * 1e3:,.0f} ms ({found['disk_bytes'] / 1e6:,.1f} MB)",
            "",
        ),
    ]


def _row(question: str, found: dict[str, float], part: str, target: str) -> tuple[str, str, str]:
    durable_s, ephemeral_s = found[f"durable_{part}s"], found[f"ephemeral_{part}s"]
    times = f"{durable_s * 1e3:,.0f} over {ephemeral_s * 1e3:,.0f} ms"
    return question, f"{found[f'durable_{part}ratio']:.2f} ({times})", target
