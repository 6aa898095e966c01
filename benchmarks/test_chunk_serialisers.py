"""How fast do chunks travel with our serialisers, compared with the generated classes?

256 MiB in chunk messages of 1 MiB, one client stream of grpc.aio over insecure loopback between two fresh processes;
both ways go through the same channel to the same server, in turn. See `chunk_stream`.

Measured twice, because a copy of 1 MiB costs either 0.1 ms or some 5 ms: as glibc comes, it may return freed memory to
the kernel and get it back page by page, 1,250 faults a message in the worst state of the heap. With fixed thresholds it
keeps its memory, and the copies alone are left.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.alternate import alternate
from benchmarks.chunk_stream import PLAN

ROOT = Path(__file__).parents[1]
PAIRS = 15
RATIO_LEAST = 1.2
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(64 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}


@contextmanager
def process(allocator: dict[str, str], *arguments: str) -> Iterator[tuple[IO[str], IO[str]]]:
    """Input and output of one end; it ends with its input."""
    command = [sys.executable, "-m", "benchmarks.chunk_stream", *arguments]
    pipe, environment = subprocess.PIPE, os.environ | allocator
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as running:
        assert running.stdin
        assert running.stdout
        yield running.stdin, running.stdout


@pytest.mark.parametrize("allocator", [{}, KEPT], ids=["default", "kept"])
def test_chunks_over_loopback(benchmark: BenchmarkFixture, allocator: dict[str, str]) -> None:
    with process(allocator, "serve") as (_, port), process(allocator, "send", port.readline().strip()) as (way, answer):

        def send(name: str) -> None:
            way.write(f"{name}\n")
            way.flush()
            assert int(answer.readline()) == PLAN.chunks

        ours_s, generated_s, ratio = alternate(benchmark, lambda: send("ours"), lambda: send("generated"), PAIRS)
    ours_gbs, generated_gbs = (PLAN.payload_bytes / seconds / 1e9 for seconds in (ours_s, generated_s))
    kind = "glibc keeps its memory" if allocator else "glibc as it comes"
    benchmark.extra_info |= {
        "ours_gbs": ours_gbs,
        "generated_gbs": generated_gbs,
        "ratio": 1 / ratio,
        "rows": [
            (
                f"chunk messages over loopback, ours ÷ generated classes; {kind}",
                f"{1 / ratio:.2f} ({ours_gbs:.2f} and {generated_gbs:.2f} GB/s)",
                f"≥ {RATIO_LEAST}",
            )
        ],
    }
