"""What does masking cost above the AES keystream that it cannot do without?

Ratio of `apply_masks` over k + 1 streams, key derivation included, to bare AES-256-CTR over as many bytes: keys at
hand, one cipher per stream, zeros in and one buffer out in pieces of 256 KiB. That is the fastest way through
`cryptography` here: over 4 MB it takes 0.87 of the time of one call for the whole stream, which leaves the cache.
"""

import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pytest_benchmark.fixture import BenchmarkFixture

from aggregator.crypto.keystream import Mask, apply_masks
from benchmarks.alternate import Action, alternate
from native.ring import word_dtype

PIECE_BYTES = 1 << 18
RATIO_MOST = 1.5


def bare_keystream(keys: list[bytes], size: int) -> Action:
    """Make every stream and keep nothing."""
    zeros, out = memoryview(bytes(PIECE_BYTES)), bytearray(PIECE_BYTES + 15)
    pieces = [zeros[: size - at] for at in range(0, size, PIECE_BYTES)]
    from_zero = modes.CTR(bytes(16))

    def run() -> None:
        for key in keys:
            cipher = Cipher(algorithms.AES256(key), from_zero).encryptor()
            for piece in pieces:
                cipher.update_into(piece, out)

    return run


@pytest.mark.parametrize(
    ("entries", "neighbours", "ring_bits", "pairs"),
    [
        (100, 132, 26, 200),
        (10_000, 10, 26, 300),
        (10_000, 132, 26, 40),
        (1_000_000, 10, 26, 40),
        (1_000_000, 132, 26, 10),
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
    masking_s, keystream_s, ratio = alternate(
        benchmark, lambda: apply_masks(vector, masks, context, ring_bits), bare, pairs
    )
    benchmark.extra_info |= {
        "masking_ms": masking_s * 1e3,
        "bare_keystream_ms": keystream_s * 1e3,
        "ratio": ratio,
        "rows": [
            (
                f"masking over its bare keystream: {entries:,} entries of {ring_bits} bits, {neighbours} neighbours",
                f"{ratio:.2f} ({masking_s * 1e3:,.1f} ms)",
                f"≤ {RATIO_MOST}",
            )
        ],
    }
