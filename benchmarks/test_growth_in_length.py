"""How do a lattice round's costs grow with the length of the vector? A table, 16 clients, 2 of whom vanish."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.command import sangam_bench

CLIENTS, DROPOUTS = 16, 2
LENGTHS = (100_000, 1_000_000, 10_000_000)
ROWS = {
    "stream, seconds": "secure_stream_s",
    "stream over the plain sum's": "stream_ratio",
    "after the last upload, seconds": "end_of_round_s",
    "server's own CPU, seconds": "server_compute_s",
    "one client's work, seconds": "client_compute_s",
    "bytes per value": "bytes_per_value",
}
FOUND: dict[int, dict[str, float]] = {}


@pytest.mark.parametrize("entries", LENGTHS)
def test_growth_in_length(benchmark: BenchmarkFixture, entries: int) -> None:
    repeats = 3 if entries >= 10_000_000 else 5
    FOUND[entries] = sangam_bench(
        benchmark, mode="lattice", clients=CLIENTS, entries=entries, dropouts=DROPOUTS, repeats=repeats
    )
    if entries == LENGTHS[-1] and len(FOUND) == len(LENGTHS):
        benchmark.extra_info["table"] = [
            [f"lattice, {CLIENTS} clients, {DROPOUTS} vanish", *(f"{length:,} values" for length in LENGTHS)],
            *([name, *(f"{FOUND[length][key]:.3f}" for length in LENGTHS)] for name, key in ROWS.items()),
        ]
