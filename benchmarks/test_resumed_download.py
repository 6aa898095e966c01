"""Does a result of more than 2^31 bytes come whole over a line that breaks five times?

A server whose last round closed with a sum of that length - put there, since two real updates of it would take 20 GB
here - and an operator that fetches it over a TCP proxy. Server and operator share this process.
"""

import asyncio
from pathlib import Path
from time import perf_counter

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

import clients
from aggregator.protocol.parameters import Parameters
from aggregator.rounds.events import EventLog
from aggregator.rounds.phase import Completed
from aggregator.rounds.round import Round
from aggregator.service.app import Running, serve
from aggregator.storage.forgetful import ForgetfulRound
from aggregator.storage.spool import MemorySpool
from aggregator.wire.vocabulary import EventKind, Step
from clients.operator import Operator
from tests.cable import Cable
from tests.consortium import TASK, Consortium
from tests.loopback import PATIENT, configured, operator, parameters

ENTRIES, CUTS = 320_000_000, 5
RATIO_MOST = 1.1
CLIENTS = 2
PATTERN = 1_000  # word i is i modulo this, above the zero point


def test_resumed_download(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    found = benchmark.pedantic(lambda: asyncio.run(measure(tmp_path)), rounds=1)
    assert found["payload_bytes"] > 2**31
    assert found["cuts"] == CUTS
    work = f"a result of {found['payload_bytes'] / 1e9:.1f} GB, cut {CUTS} times"
    benchmark.extra_info |= found
    benchmark.extra_info["rows"] = [
        (f"{work}: bytes that came down over its own", f"{found['ratio']:.3f}", f"≤ {RATIO_MOST}"),
        (f"{work}: until decoded", f"{found['seconds']:.0f} s", ""),
    ]


async def measure(directory: Path) -> dict[str, float]:
    spec = parameters((ENTRIES,), value_bits=54, clients_max=CLIENTS)
    size = spec.result_plan.payload_bytes
    config = configured(directory, Consortium.of(CLIENTS))
    async with serve(config) as running, Cable(running.port) as cable:
        async with clients.operate(f"localhost:{cable.port}", operator()) as leader:
            await leader.create_task(TASK, spec, deadlines=PATIENT)
            put(running, spec)
            before = cable.downward_bytes
            cable.downward_cuts.extend(before + size * (2 * cut + 1) // (2 * CUTS) for cut in range(CUTS))
            seconds = await fetched(leader, spec)
        ratio = round((cable.downward_bytes - before) / size, 4)
        return {"payload_bytes": size, "ratio": ratio, "cuts": cable.cuts, "seconds": round(seconds, 1)}


def put(running: Running, spec: Parameters) -> None:
    """Let the task have closed a round with this sum."""
    task, consortium = running.tasks.find(TASK), Consortium.of(CLIENTS)
    total = np.arange(spec.entries, dtype=np.uint64)
    total %= np.uint64(PATTERN)
    total += np.uint64(CLIENTS * spec.zero_point)
    total[ENTRIES:] = 0
    total[ENTRIES] = CLIENTS  # the lowest limb of the weights: one each
    log = EventLog(lambda: 0.0)
    log.add(EventKind.CLOSED, Step.UNMASKING, clients=CLIENTS)
    round_ = Round(1, 0.0, log, lambda: CLIENTS, ForgetfulRound(MemorySpool()))
    task.history.begin(round_)
    setting = consortium.setting(consortium.terms(spec))
    task.history.end(round_, Completed(setting, tuple(range(CLIENTS)), total))


async def fetched(leader: Operator, spec: Parameters) -> float:
    began = perf_counter()
    result = await leader.fetch_result(TASK, 1)
    seconds = perf_counter() - began
    step = spec.scale * spec.weight_max / CLIENTS
    for place in (0, 1, 2**28 + 7, ENTRIES - 1):
        assert result.mean["x"][place] == np.float64(place % PATTERN) * step
    assert int(result.words[:ENTRIES].sum() % np.uint64(2**32)) == expected(spec)
    return seconds


def expected(spec: Parameters) -> int:
    """The sum of all words, in plain integers."""
    whole, rest = divmod(ENTRIES, PATTERN)
    ramps = whole * sum(range(PATTERN)) + sum(range(rest))
    return (ramps + ENTRIES * CLIENTS * spec.zero_point) % 2**32
