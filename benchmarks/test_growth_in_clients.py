"""Does any step of a round grow faster than n·k² as clients join, and with what constants?

A whole round in memory at each size: real identities, the real steps of every client and the server's real phases,
L = 100, default threat model, one client in twenty gone before its input. Only the network and its codec are left out.
The sum is compared with the survivors' sum, entry by entry.

A server's step is counted over all clients together, a client's by its median. CPU seconds of one thread, which a
loaded machine hardly changes. Growth is seconds / (n·k²), for a client seconds / k², relative to the smallest size: at
most 1 is the goal.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from aggregator.crypto import roster as rosters
from aggregator.crypto.roster import Roster
from aggregator.protocol.graph import ThreatModel, degree
from aggregator.protocol.participant import Safeguards
from aggregator.rounds.advertise_keys import AdvertiseKeys
from aggregator.rounds.masked_input import MaskedInput
from aggregator.rounds.phase import Completed, Phase
from tests.consortium import Consortium, drbg
from tests.harness import NOW, Player, parameters, ring_words

SIZES = (250, 500, 1_000)
ENTRIES = 98  # and two limbs of the weight: L = 100
VANISH_EVERY = 20
GROWTH_MOST = 1
SHOWN_S = 0.005  # a server's step that takes less at the largest size is left out of the table

P = ParamSpec("P")
R = TypeVar("R")


@pytest.mark.benchmark(disable_gc=True)  # the objects of a thousand clients are not the server's to walk
def test_growth_in_clients(benchmark: BenchmarkFixture) -> None:
    found: dict[int, dict[str, float]] = {}
    benchmark.pedantic(lambda: found.update((n, simulate(n)) for n in SIZES))
    benchmark.extra_info |= {"seconds": found, "rows": rows(found), "table": table(found)}


class Stopwatch:
    """CPU seconds of every call, by what it was for."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def time(self, step: str, action: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        start = time.process_time()
        result = action(*args, **kwargs)
        self.seconds[step].append(time.process_time() - start)
        return result

    def figures(self) -> dict[str, float]:
        """Seconds by step: the server's over all clients, a client's at the median."""
        return {step: (sum if step.startswith("server") else median)(each) for step, each in self.seconds.items()}


def simulate(n: int) -> dict[str, float]:
    """One exact round of n clients; seconds by step."""
    watch, consortium = Stopwatch(), Consortium.of(n)
    terms = consortium.terms(parameters(n, ENTRIES, minimum_cohort=n // 2 + 1))
    words = ring_words(terms, range(n))
    players = {c: Player(consortium.site(c, Safeguards()), words[c], drbg("growth", c)) for c in words}
    setting = consortium.setting(terms)
    for _ in range(3):
        watch.time("once per roster: a client checks it", check_roster, consortium, setting.roster_bytes)
    phase: Any = AdvertiseKeys(setting)
    while isinstance(phase, Phase):
        collect(watch, phase, players)
        phase = watch.time(f"server: {phase.step}, finish", phase.finish)
    assert isinstance(phase, Completed), phase
    assert phase.survivors == tuple(c for c in range(n) if c % VANISH_EVERY)
    plain = np.sum([words[c].astype(np.uint64) for c in phase.survivors], axis=0) % 2**terms.parameters.ring_bits
    assert np.array_equal(phase.total, plain)
    return watch.figures()


def collect(watch: Stopwatch, phase: Phase[Any], players: dict[int, Player]) -> None:
    """Every client hears the step's announcement and answers it."""
    for client in sorted(phase.awaited):
        if isinstance(phase, MaskedInput) and client % VANISH_EVERY == 0:
            continue
        body = watch.time(f"server: {phase.step}, announce", phase.announcement, client)
        answer = watch.time(f"client: {phase.step}", players[client].react, body)
        watch.time(f"server: {phase.step}, receive", receive, phase, client, answer)


def receive(phase: Phase[Any], client: int, answer: tuple[Any, ...]) -> None:
    if not isinstance(phase, MaskedInput):
        phase.accept(client, *answer)
        return
    upload = phase.begin(client, answer[0])
    assert upload is not None
    for chunk in answer[1:]:
        phase.receive(upload, chunk)
    phase.commit(upload)


def check_roster(consortium: Consortium, roster: bytes) -> Roster:
    """What a client does once for each roster, not in every round."""
    found = rosters.from_bytes(roster)
    found.verify(consortium.authority.certificate, NOW)
    return found


def growth(found: dict[int, dict[str, float]], step: str, n: int) -> float:
    def scaled(size: int) -> float:
        k = degree(size, size, ThreatModel()).k
        return found[size][step] / k**2 / (size if step.startswith("server") else 1)

    return scaled(n) / scaled(SIZES[0])


def rows(found: dict[int, dict[str, float]]) -> list[tuple[str, str, str]]:
    """What the summary says: totals, and the step that grows fastest."""
    n, last = SIZES[-1], found[SIZES[-1]]
    server_s, client_s = (sum(s for step, s in last.items() if step.startswith(side)) for side in ("server", "client"))
    steps = [step for step in last if step.startswith(("server", "client"))]
    fastest = max(steps, key=lambda step: growth(found, step, n))
    return [
        (f"a round of {n:,} clients, {ENTRIES + 2} entries: the server in all", f"{server_s:.1f} s", ""),
        (f"a round of {n:,} clients, {ENTRIES + 2} entries: each client in all", f"{client_s * 1e3:.0f} ms", ""),
        (
            f"growth from {SIZES[0]} to {n:,} clients over n·k², the worst step ({fastest})",
            f"{growth(found, fastest, n):.2f}",
            f"≤ {GROWTH_MOST}",
        ),
    ]


def table(found: dict[int, dict[str, float]]) -> list[tuple[str, ...]]:
    """Header and body: milliseconds by step and size, then growth."""
    degrees = [degree(n, n, ThreatModel()) for n in SIZES]
    header = (
        "CPU milliseconds; the server's for all clients, a client's for one",
        *(f"n = {n:,}, k = {d.k}, t = {d.t}" for n, d in zip(SIZES, degrees, strict=True)),
        *(f"growth over n·k² to {n:,}" for n in SIZES[1:]),
    )
    steps = [step for step, s in found[SIZES[-1]].items() if s >= SHOWN_S or not step.startswith("server")]
    body = [
        (
            step,
            *(f"{found[n][step] * 1e3:,.1f}" for n in SIZES),
            *(f"{growth(found, step, n):.2f}" for n in SIZES[1:]),
        )
        for step in sorted(steps, key=lambda step: step.partition(":")[0], reverse=True)
    ]
    return [header, *body]
