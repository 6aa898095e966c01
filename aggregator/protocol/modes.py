"""Which mode runs: the two verbs, for callers that need not know it."""

from aggregator.crypto.agreement import Entropy
from aggregator.crypto.keystream import SEED_BYTES
from aggregator.protocol import lattice, pairwise
from aggregator.protocol.contribution import Blinding, Total
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.protocol.spread import Each
from native.ring import Words


def contribute(
    x: Words, blind: Blinding, parameters: Parameters, *, ctx1: bytes, entropy: Entropy, each: Each
) -> memoryview:
    """Make a contribution. Run by the client, once per round; what it draws is in the result and nowhere else.

    Args:
        x: encoded update, shape (L,), values in the ring.
        blind: adds this client's masks.
        parameters: the round's encoding and mode.
        ctx1: the round's second context, 32 bytes.
        entropy: the source of a lattice key, drawn here so that no key can meet two vectors.
        each: runs independent parts, perhaps in several threads.

    Returns:
        The bytes to send, `parameters.upload_plan` cuts them.
    """
    if parameters.mode is Mode.LATTICE:
        return lattice.contribute(x, blind, parameters.layout, seed=entropy(SEED_BYTES), ctx1=ctx1, each=each)
    return pairwise.contribute(x, blind, parameters.ring_bits)


def new_total(parameters: Parameters) -> Total:
    """An empty sum. Run by the server when uploads begin."""
    if parameters.mode is Mode.LATTICE:
        return lattice.Total(parameters.layout)
    return pairwise.Total(parameters.result_plan, parameters.entries)
