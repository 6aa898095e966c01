"""The small form of `make crowd`: of sixty clients ten misbehave, each in another way; nobody waits for them."""

import io

from rich.console import Console

from aggregator.config import MIB
from aggregator.local.screen import Screen
from aggregator.local.workload import Workload
from aggregator.protocol.parameters import Mode
from benchmarks.crowd import job
from benchmarks.crowd.settings import Conduct, Settings

CLIENTS, EVERY = 60, 6


async def test_some_are_slow_silent_or_hostile_and_all_others_are_summed():
    load = Workload(Mode.PAIRWISE, CLIENTS, 3_000, 16, 0)
    settings = Settings(load, staging_bytes=MIB // 8, spool_bytes=0, pause_s=0.05, misbehaves_every=EVERY, waits=False)
    assert settings.count(*Conduct) == CLIENTS
    assert all(settings.count(conduct) for conduct in Conduct)
    found = await job.run(settings, Screen(Console(file=io.StringIO())))
    assert (found["honest"], found["completed"], found["exact"]) == (50, 50, True), found
    assert found["longest_step_s"] < settings.step_s / 4, "nobody waited for the deadline"
    assert 0 < found["server_rss_above_idle_bytes"] <= found["rss_bound_bytes"]
    assert found["refused"].keys() >= {"MessageError", "NotAdmitted", "Overloaded"}
