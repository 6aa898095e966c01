"""From which length on is lattice mode the cheaper one? It decides the default, `LATTICE_ENTRIES_LEAST`.

32 clients, 3 of whom drop out after they shared their keys; both modes on the same vectors, in one thread. The server
checks, adds and opens; a client blinds, encrypts or packs. Key agreement and Shamir, alike in both, are left out.
"""

import os
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from aggregator.protocol import modes, pairwise
from aggregator.protocol.parameters import LATTICE_ENTRIES_LEAST, Mode, Parameters
from aggregator.wire.messages import Chunk, Tensor
from benchmarks.alternate import alternate

CLIENTS, DROPPED = 32, 3
CTX1 = os.urandom(32)


class Work:
    """One mode's side of the comparison."""

    def __init__(self, mode: Mode, entries: int) -> None:
        shape = (Tensor("x", (entries - 1,)),)
        self.parameters = Parameters(shape, 1.0, 1_000, 3, 100, mode=mode)
        self.x = np.full(entries, 40_000, np.uint32)
        self.seeds = {(u, v): os.urandom(32) for u in range(CLIENTS) for v in range(u)}
        self.own = {u: os.urandom(32) for u in range(CLIENTS)}
        self.survivors = range(CLIENTS - DROPPED)
        self.uploads = [list(self.cut(self.contribute(u))) for u in self.survivors]

    def seed(self, u: int, v: int) -> bytes:
        return self.seeds[max(u, v), min(u, v)]

    def contribute(self, u: int) -> memoryview:
        pairs = {v: self.seed(u, v) for v in range(CLIENTS) if v != u}
        blind = pairwise.Masking(self.own[u], pairs, u, CTX1)
        return modes.contribute(self.x, blind, self.parameters, ctx1=CTX1, entropy=os.urandom, each=map)

    def cut(self, payload: memoryview) -> list[Chunk]:
        return list(self.parameters.upload_plan.cut(payload))

    def open(self) -> None:
        total = modes.new_total(self.parameters)
        for chunks in self.uploads:
            for chunk in chunks:
                total.check(chunk.index, chunk.data)
            for chunk in chunks:
                total.add(chunk.index, chunk.data)
        dropped = range(CLIENTS - DROPPED, CLIENTS)
        dangling = {(u, h): self.seed(u, h) for u in self.survivors for h in dropped}
        own = {u: self.own[u] for u in self.survivors}
        words = total.open(pairwise.Unmasking(own, dangling, CTX1), CTX1, map)
        assert words[0] == words[-1] == len(self.survivors) * 40_000


@pytest.mark.parametrize("side", ["server", "client"])
@pytest.mark.parametrize(("entries", "pairs"), [(2_000, 40), (6_000, 40), (20_000, 30), (60_000, 15), (200_000, 7)])
def test_lattice_over_pairwise(benchmark: BenchmarkFixture, side: str, entries: int, pairs: int) -> None:
    works = [Work(mode, entries) for mode in (Mode.LATTICE, Mode.PAIRWISE)]
    actions: list[Callable[[], object]] = [
        work.open if side == "server" else partial(work.contribute, 0) for work in works
    ]
    lattice_s, pairwise_s, ratio = alternate(benchmark, actions[0], actions[1], pairs)
    benchmark.extra_info |= {
        "lattice_ms": lattice_s * 1e3,
        "pairwise_ms": pairwise_s * 1e3,
        "ratio": ratio,
        "rows": [
            (
                f"crossover at {LATTICE_ENTRIES_LEAST:,}: {side}'s time, lattice over pairwise, {entries:,} entries",
                f"{ratio:.2f} ({lattice_s * 1e3:.1f} ms)",
                "",
            )
        ],
    }
