"""Does the end of a lattice round grow with who drops out? At 10^7 values, 30 % of 32 clients against none."""

from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.command import figures_of

CLIENTS, ENTRIES, REPEATS = 32, 10_000_000, 3
DROPOUTS = (0, 3, 9)
GROWTH_MOST = 1.3


def test_end_of_round_with_dropouts(benchmark: BenchmarkFixture) -> None:
    found = benchmark.pedantic(lambda: [measured(dropouts) for dropouts in DROPOUTS], rounds=1)
    ends_s = [figures["end_of_round_s"] for figures in found]
    benchmark.extra_info |= {
        "by_dropouts": found,
        "rows": [row(dropouts, end_s, ends_s[0]) for dropouts, end_s in zip(DROPOUTS, ends_s, strict=True)],
    }


def measured(dropouts: int) -> dict[str, Any]:
    return figures_of(mode="lattice", clients=CLIENTS, entries=ENTRIES, dropouts=dropouts, repeats=REPEATS)


def row(dropouts: int, end_s: float, without_s: float) -> tuple[str, str, str]:
    return (
        f"end of a lattice round, {CLIENTS} clients of {ENTRIES:,}: {dropouts} vanish, over none",
        f"{end_s / without_s:.2f} ({end_s * 1e3:,.0f} ms)",
        f"≤ {GROWTH_MOST}" if dropouts == DROPOUTS[-1] else "",
    )
