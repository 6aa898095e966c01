"""How do a lattice round's costs grow with the length of the vector? A table, 16 clients, 2 of whom vanish."""

from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.command import figures_of

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


def test_growth_in_length(benchmark: BenchmarkFixture) -> None:
    found = benchmark.pedantic(lambda: [measured(entries) for entries in LENGTHS], rounds=1)
    benchmark.extra_info["by_length"] = found
    benchmark.extra_info["table"] = [
        [f"lattice, {CLIENTS} clients, {DROPOUTS} vanish", *(f"{entries:,} values" for entries in LENGTHS)],
        *([name, *(f"{figures[key]:.3f}" for figures in found)] for name, key in ROWS.items()),
    ]


def measured(entries: int) -> dict[str, Any]:
    repeats = 3 if entries >= 10_000_000 else 5
    return figures_of(mode="lattice", clients=CLIENTS, entries=entries, dropouts=DROPOUTS, repeats=repeats)
