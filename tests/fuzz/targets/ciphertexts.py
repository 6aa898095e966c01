"""BFV residues: a public key, a chunk of a contribution, and a sum that the key holder is shown."""

from collections.abc import Iterator
from functools import cache
from typing import Final

import numpy as np

from aggregator.errors import MessageError
from aggregator.protocol import homomorphic
from aggregator.protocol.homomorphic import Keys, Total
from tests.fuzz.draws import Draws, tiled
from tests.fuzz.target import Target
from tests.parties import parameters

LAYOUT: Final = parameters().ciphertexts
CLIENTS: Final = 2


@cache
def _keys() -> Keys:
    return homomorphic.new_keys(LAYOUT)


def run(data: bytes) -> None:
    """Bytes repeated to about the right size, with a few of them put somewhere else."""
    draws = Draws(data)
    how, longer, at = draws.below(8), draws.below(16), draws.below(2**16)
    spot = draws.take(4)
    payload = bytearray(tiled(draws.rest(), LAYOUT.plan.payload_bytes))
    payload[at : at + 4] = spot
    if longer > 12:
        payload = payload[: 4 * (longer - 16)]
    try:
        if how == 0:
            homomorphic.decrypt(payload, _keys().secret, LAYOUT, clients=CLIENTS)
        elif how <= 3:
            homomorphic.read_public_key(payload, LAYOUT)
        elif len(payload) == LAYOUT.plan.payload_bytes:  # the plan is checked first: see `Uploads.receive`
            _add(bytes(payload))
    except MessageError:
        return


def _add(payload: bytes) -> None:
    total = Total(LAYOUT)
    total.check(0, payload)
    total.add(0, payload)
    assert bytes(total.packed()) == payload


def seeds() -> Iterator[bytes]:
    """Small residues, and such as are too large."""
    for how in range(5):
        for pattern in (b"\0", b"\1\2\3", b"\xff" * 4, np.arange(300, dtype=np.uint32).tobytes()):
            yield bytes([how, 0, 0, 0, 1, 0]) + pattern[:4].ljust(4, b"\0") + pattern


TARGET: Final = Target("ciphertexts", run, seeds, share=20)
