"""What does masking cost above the AES keystream that it cannot do without?

Ratio of `apply_masks` over k + 1 streams, key derivation included, to AES-256-CTR over as many bytes: one cipher per
stream, zeros in and one buffer out in pieces of 256 KiB. That is the fastest way through `cryptography` here: over
4 MB it takes 0.87 of the time of one call for the whole stream, which leaves the cache.

The keystream is either bare, its keys at hand, or includes what a stream's key costs: one HKDF-Expand, 1.5 µs beside
the 3.3 µs of an AES context. At 100 entries that is a third of everything.
"""

import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from pytest_benchmark.fixture import BenchmarkFixture

from aggregator.crypto.keystream import Mask, apply_masks
from benchmarks.alternate import Action, alternate
from native.ring import word_dtype

PIECE_BYTES = 1 << 18
RATIO_MOST = 1.5


def keystream(seeds: list[bytes], size: int, *, derived: bool) -> Action:
    """Make every stream and keep nothing; each under a key derived from its seed, or under the seed itself."""
    zeros, out = memoryview(bytes(PIECE_BYTES)), bytearray(PIECE_BYTES + 15)
    pieces = [zeros[: size - at] for at in range(0, size, PIECE_BYTES)]
    from_zero, info = modes.CTR(bytes(16)), bytes(60)

    def run() -> None:
        for seed in seeds:
            key = HKDFExpand(SHA256(), 32, info).derive(seed) if derived else seed
            cipher = Cipher(algorithms.AES256(key), from_zero).encryptor()
            for piece in pieces:
                cipher.update_into(piece, out)

    return run


@pytest.mark.parametrize("derived", [False, True], ids=["bare", "derived"])
@pytest.mark.parametrize(
    ("work", "pairs"),
    [
        ((100, 132, 26), 200),
        ((10_000, 10, 26), 300),
        ((10_000, 132, 26), 40),
        ((1_000_000, 10, 26), 40),
        ((1_000_000, 132, 26), 10),
        ((1_000_000, 10, 48), 20),
    ],
)
def test_masking_over_its_keystream(
    benchmark: BenchmarkFixture, work: tuple[int, int, int], pairs: int, derived: bool
) -> None:
    entries, neighbours, ring_bits = work
    seeds = [os.urandom(32) for _ in range(neighbours + 1)]
    masks = [Mask(seed, "pair", 1 if i % 2 else -1) for i, seed in enumerate(seeds)]
    vector, context = np.zeros(entries, word_dtype(ring_bits)), os.urandom(32)
    streams = keystream(seeds, vector.nbytes, derived=derived)
    kind = "its keystream, keys derived" if derived else "its bare keystream"
    masking_s, keystream_s, ratio = alternate(
        benchmark, lambda: apply_masks(vector, masks, context, ring_bits), streams, pairs
    )
    benchmark.extra_info |= {
        "masking_ms": masking_s * 1e3,
        "keystream_ms": keystream_s * 1e3,
        "ratio": ratio,
        "rows": [
            (
                f"masking over {kind}: {entries:,} entries of {ring_bits} bits, {neighbours} neighbours",
                f"{ratio:.2f} ({masking_s * 1e3:,.1f} ms)",
                f"≤ {RATIO_MOST}",
            )
        ],
    }
