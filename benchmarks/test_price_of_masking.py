"""What does masking cost above the AES keystream that it cannot do without?

Ratio of `apply_masks` over k + 1 streams, key derivation included, to bare AES-256-CTR over as many bytes (one cipher
per stream, keys at hand, zeros in, one buffer out). Both sides alternate in one run, so that a drifting clock cancels.
Goal: at most 1.5.
"""

import os
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pytest_benchmark.fixture import BenchmarkFixture

from aggregator.crypto.keystream import Mask, apply_masks
from native.ring import word_dtype


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def bare_keystream(keys: list[bytes], size: int) -> Callable[[], None]:
    zeros, out = bytes(size), bytearray(size + 15)

    def run() -> None:
        for key in keys:
            Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update_into(zeros, out)

    return run


@pytest.mark.parametrize(
    ("entries", "neighbours", "ring_bits", "pairs"),
    [
        (100, 132, 26, 200),
        (10_000, 10, 26, 300),
        (10_000, 132, 26, 40),
        (1_000_000, 10, 26, 40),
        (1_000_000, 132, 26, 5),
        (1_000_000, 10, 48, 20),
    ],
)
def test_masking_over_bare_keystream(
    benchmark: BenchmarkFixture, entries: int, neighbours: int, ring_bits: int, pairs: int
) -> None:
    seeds = [os.urandom(32) for _ in range(neighbours + 1)]
    masks = [Mask(seed, "pair", 1 if i % 2 else -1) for i, seed in enumerate(seeds)]
    vector, context = np.zeros(entries, word_dtype(ring_bits)), os.urandom(32)
    bare = bare_keystream(seeds, vector.nbytes)
    both: list[tuple[float, float]] = []

    def alternate() -> None:
        both.append((seconds(lambda: apply_masks(vector, masks, context, ring_bits)), seconds(bare)))

    benchmark.pedantic(alternate, rounds=pairs, warmup_rounds=2)
    masking, keystream = (median(times) for times in zip(*both[2:], strict=True))
    benchmark.extra_info |= {
        "masking_ms": masking * 1e3,
        "bare_keystream_ms": keystream * 1e3,
        "ratio": median(a / b for a, b in both[2:]),
        "masked_GB_per_s": vector.nbytes * len(masks) / masking / 1e9,
    }
