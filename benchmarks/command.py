"""One run of `sangam bench`, as an engineer would start it."""

import json
import subprocess
import sys
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

ATTEMPT_S = 900


def sangam_bench(benchmark: BenchmarkFixture, *flags: str, **options: object) -> dict[str, Any]:
    """Its figures; also kept in the benchmark's own record. Options are the command's, without their dashes."""
    figures: dict[str, Any] = benchmark.pedantic(figures_of, flags, options, rounds=1)
    benchmark.extra_info |= figures
    return figures


def figures_of(*flags: str, **options: object) -> dict[str, Any]:
    """The figures alone, for a benchmark that is more than one run."""
    words = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "aggregator", "bench", *words, *flags, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ATTEMPT_S, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert figures["exact"]
    return figures
