"""What does a secure sum cost above the plain float32 sum of the same vectors over the same path?

Both sides in one run of `sangam bench`: 32 clients on this machine's cores, 3 of whom vanish half-way. "Stream" is from
the first byte of an upload to the decoded sum: the consistency check and the unmasking of all clients are in it.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.command import sangam_bench

CLIENTS, DROPOUTS = 32, 3
STREAM_RATIO_MOST = 1.15
BYTES_MOST = 4.05


@pytest.mark.parametrize(("entries", "repeats"), [(1_000_000, 7), (10_000_000, 3)])
def test_price_of_lattice_mode(benchmark: BenchmarkFixture, entries: int, repeats: int) -> None:
    found = sangam_bench(
        benchmark, mode="lattice", clients=CLIENTS, entries=entries, dropouts=DROPOUTS, repeats=repeats
    )
    work = f"lattice, {CLIENTS} clients of {entries:,} values, {DROPOUTS} vanish"
    plain_s, secure_s, end_s = (found[key] for key in ("plain_stream_s", "secure_stream_s", "end_of_round_s"))
    benchmark.extra_info["rows"] = [
        (
            f"{work}: stream over the plain sum's",
            f"{found['stream_ratio']:.2f} ({secure_s * 1e3:,.0f} over {plain_s * 1e3:,.0f} ms)",
            f"≤ {STREAM_RATIO_MOST}",
        ),
        (f"{work}: of which after the last upload", f"{end_s * 1e3:,.0f} ms", ""),
        (f"{work}: CPU of the server's own code", f"{found['server_compute_s'] * 1e3:,.0f} ms", ""),
        (f"{work}: one client's quantise and encrypt", f"{found['client_compute_s'] * 1e3:,.1f} ms", ""),
        (f"{work}: bytes per value, all that a client sends", f"{found['bytes_per_value']:.3f}", f"≤ {BYTES_MOST}"),
    ]


def test_price_of_homomorphic_mode(benchmark: BenchmarkFixture) -> None:
    """With key holder and auditor as processes of their own, on the same cores."""
    entries = 1_000_000
    found = sangam_bench(benchmark, mode="homomorphic", clients=CLIENTS, entries=entries, dropouts=DROPOUTS, repeats=3)
    work = f"homomorphic, {CLIENTS} clients of {entries:,} values, {DROPOUTS} vanish"
    plain_s, secure_s, end_s = (found[key] for key in ("plain_stream_s", "secure_stream_s", "end_of_round_s"))
    benchmark.extra_info["rows"] = [
        (
            f"{work}: stream over the plain sum's",
            f"{found['stream_ratio']:.2f} ({secure_s * 1e3:,.0f} over {plain_s * 1e3:,.0f} ms)",
            "",
        ),
        (f"{work}: of which after the last upload, audit and decryption", f"{end_s * 1e3:,.0f} ms", ""),
        (f"{work}: CPU of the server's own code", f"{found['server_compute_s'] * 1e3:,.0f} ms", ""),
        (f"{work}: one client's quantise and encrypt", f"{found['client_compute_s'] * 1e3:,.1f} ms", ""),
        (f"{work}: bytes per value, all that a client sends", f"{found['bytes_per_value']:.3f}", ""),
    ]
