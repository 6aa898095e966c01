"""What do five broken lines cost an upload of 3 GB? See `resumed_upload`, which is also a command."""

import asyncio
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.resumed_upload import measure

PAYLOAD_BYTES, CUTS = 3_000_000_000, 5
RATIO_MOST = 1.1


def test_resumed_upload(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    found = benchmark.pedantic(lambda: asyncio.run(measure(tmp_path, PAYLOAD_BYTES, CUTS)), rounds=1)
    assert found["cuts"] == CUTS
    work = f"an upload of {PAYLOAD_BYTES / 1e9:.0f} GB, cut {CUTS} times"
    benchmark.extra_info |= found
    benchmark.extra_info["rows"] = [
        (f"{work}: bytes that went up over its own", f"{found['ratio']:.3f}", f"≤ {RATIO_MOST}"),
        (f"{work}: until accepted", f"{found['seconds']:.0f} s", ""),
        (f"{work}: server's memory above idle while it came", f"{found['staging_peak_bytes'] / 2**20:.0f} MiB", ""),
    ]
