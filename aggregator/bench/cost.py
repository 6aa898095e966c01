"""What one client's own work takes, apart from any round: quantise and blind, on all cores, key agreement excluded."""

import os
from statistics import median
from time import perf_counter

from aggregator.bench.settings import Settings
from aggregator.cores import Cores
from aggregator.local.updates import Update
from aggregator.local.workload import TENSOR, weight
from aggregator.protocol import homomorphic, modes, pairwise
from aggregator.protocol.encoding import encode
from aggregator.protocol.parameters import Mode
from aggregator.protocol.spread import Each

SEED_BYTES = 32
TIMES_MAX = 15
ENOUGH_S = 3.0


def client_seconds(settings: Settings, update: Update) -> float:
    """Wall seconds, the median of up to 15 times after one that does not count; run it on an idle machine."""
    cores = Cores()
    try:
        _once(settings, update, cores.each)  # threads start, memory is touched for the first time
        taken = [_once(settings, update, cores.each)]
        while len(taken) < TIMES_MAX and sum(taken) < ENOUGH_S:
            taken.append(_once(settings, update, cores.each))
    finally:
        cores.close()
    return median(taken)


def _once(settings: Settings, update: Update, each: Each) -> float:
    """With keys that no round knows, as many as a client has neighbours; or under one public key."""
    own, ctx, parameters = os.urandom(SEED_BYTES), os.urandom(SEED_BYTES), settings.parameters()
    if parameters.mode is Mode.HOMOMORPHIC:
        layout = parameters.ciphertexts
        public = homomorphic.new_keys(layout).public
        start = perf_counter()
        encoded = encode({TENSOR: update}, weight(0), parameters, ctx, os.urandom(SEED_BYTES), each=each)
        key = homomorphic.read_public_key(public, layout)
        homomorphic.contribute(encoded.words, key, layout, seed=own, ctx0=ctx, each=each)
        return perf_counter() - start
    seeds = {client: os.urandom(SEED_BYTES) for client in range(1, settings.clients)}
    blind = pairwise.Masking(own, seeds, 0, ctx)
    start = perf_counter()
    encoded = encode({TENSOR: update}, weight(0), parameters, ctx, os.urandom(SEED_BYTES), each=each)
    modes.contribute(encoded.words, blind, parameters, ctx1=ctx, entropy=os.urandom, each=each)
    return perf_counter() - start
