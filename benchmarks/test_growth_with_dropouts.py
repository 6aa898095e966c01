"""Does the end of a lattice round grow with who drops out? At 10^7 values, 30 % of 32 clients against none."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.command import sangam_bench

CLIENTS, ENTRIES, REPEATS = 32, 10_000_000, 3
DROPOUTS = (0, 3, 9)
GROWTH_MOST = 1.3
FOUND: dict[int, float] = {}


@pytest.mark.parametrize("dropouts", DROPOUTS)
def test_end_of_round_with_dropouts(benchmark: BenchmarkFixture, dropouts: int) -> None:
    found = sangam_bench(
        benchmark, mode="lattice", clients=CLIENTS, entries=ENTRIES, dropouts=dropouts, repeats=REPEATS
    )
    FOUND[dropouts] = found["end_of_round_s"]
    growth = FOUND[dropouts] / FOUND.get(0, FOUND[dropouts])
    benchmark.extra_info["rows"] = [
        (
            f"end of a lattice round, {CLIENTS} clients of {ENTRIES:,}: {dropouts} vanish, over none",
            f"{growth:.2f} ({FOUND[dropouts] * 1e3:,.0f} ms)",
            f"≤ {GROWTH_MOST}" if dropouts == DROPOUTS[-1] else "",
        )
    ]
