"""Chunks of masked vectors: checked on receipt; what passes of ciphertexts adds up below the primes."""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import numpy as np

from aggregator.errors import MessageError
from aggregator.protocol import modes
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.wire.messages import Chunk
from tests.fuzz.draws import Draws, tiled
from tests.fuzz.target import Target
from tests.harness import parameters

SPECS: Final[tuple[Parameters, ...]] = (
    parameters(4, 60),
    parameters(100, 61, value_bits=30),
    parameters(4, 4, mode=Mode.LATTICE),
    parameters(9, 5_000, mode=Mode.LATTICE, value_bits=20),
)


@cache
def _total(which: int) -> Any:
    return modes.new_total(SPECS[which])


def run(data: bytes) -> None:
    """Which parameters, which chunk, its length, then its bytes, repeated to that length."""
    draws = Draws(data)
    which = draws.below(len(SPECS))
    plan, total = SPECS[which].upload_plan, _total(which)
    expected, index = draws.below(plan.chunks), draws.below(plan.chunks + 1)
    size = max(plan.size(expected) + (draws.below(9) - 4) * (draws.below(4) == 0), 1)
    chunk = Chunk(index, tiled(draws.rest(), size))
    try:
        plan.check(expected, chunk)
        total.check(index, chunk.data)
    except MessageError:
        return
    total.add(index, chunk.data)
    if SPECS[which].mode is Mode.LATTICE:
        primes = np.array(total._layout.modulus.primes, np.uint32)
        assert int(total._ciphertext.max(initial=0)) < int(primes.max())


def seeds() -> Iterator[bytes]:
    """Each chunk of each, with zeros and with the largest bytes."""
    for which, spec in enumerate(SPECS):
        for index in range(spec.upload_plan.chunks):
            for pattern in (b"\0", b"\1\0\0\0", b"\xff", bytes(7) + b"\3"):
                yield bytes([which, index, index, 4, 1]) + pattern


TARGET: Final = Target("contributions", run, seeds, share=40)
