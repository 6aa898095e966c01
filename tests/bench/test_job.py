from pathlib import Path

import numpy as np
import pytest

from aggregator.bench import updates
from aggregator.bench.job import Job, Processes
from aggregator.bench.settings import Settings
from aggregator.bench.updates import Updates
from aggregator.wire.messages import ResultMessage

SETTINGS = Settings("plain", clients=4, entries=300_000, bits=16, dropouts=1, repeats=1, client_processes=1)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    updates.write(tmp_path / "u.npy", SETTINGS.entries, SETTINGS.clients)
    shared = Updates(tmp_path / "u.npy", SETTINGS.entries)
    return Job(SETTINGS, "abcd", None, None, processes=Processes(None, [], [], []), updates=shared)


async def streamed(total: np.ndarray, chunks: int = 2):
    for chunk in list(SETTINGS.plain_plan.cut(total.data))[:chunks]:
        yield ResultMessage(chunk)


async def test_the_plain_sum_is_checked_value_by_value(job: Job) -> None:
    total = sum(job._updates.of(client) for client in range(3))
    assert await job._is_plain_sum(streamed(total))
    for place in (0, 299_999):
        wrong = total.copy()
        wrong[place] += 2.0**-15
        assert not await job._is_plain_sum(streamed(wrong))
    assert not await job._is_plain_sum(streamed(total, chunks=1))
    assert not await job._is_plain_sum(streamed(total + job._updates.of(3)))
