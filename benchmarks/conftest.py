"""Every benchmark's own figures, at the end of the run and, with the versions that matter, in its JSON."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import report

FOUND: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()


@pytest.fixture(autouse=True)
def keep_figures(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Iterator[None]:
    yield
    request.config.stash.setdefault(FOUND, []).append(benchmark.extra_info)


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info["packages"] = {name: version(name) for name in report.PACKAGES}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line("")
    for line in report.tables(terminalreporter.config.stash.get(FOUND, [])):
        terminalreporter.write_line(line)
