"""How far are the lattice kernels from what this machine can do?

- `rows.add` and `rows.all_below`, which take packed residues apart, against NumPy's in-place add and maximum over as
  many unpacked words, in cache and beyond it.
- `multiply_inverse`: 12 · 2,048 butterflies and 4,096 products a transform, against as many bare Shoup products, the
  one multiplication that a butterfly cannot do without, over one row in the first-level cache.
- `sample` against the AES keystream that it turns into samples.
"""

import os

import numba
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from aggregator.crypto import keystream
from aggregator.protocol.layout import DEGREE, MODULI
from benchmarks.alternate import alternate
from native import gaussian, ntt, rows

SPEED_LEAST = 0.7
LARGEST = MODULI[-1]
STAGES = 12


@pytest.mark.parametrize(("blocks", "pairs"), [(1, 2000), (2_048, 20)])
@pytest.mark.parametrize("kernel", ["add", "all_below"])
def test_sums_over_numpy(benchmark: BenchmarkFixture, kernel: str, blocks: int, pairs: int) -> None:
    total, values = np.ones((3 * blocks, DEGREE), np.uint32), np.full((3 * blocks, DEGREE), 7, np.uint32)
    form = rows.Rows.of(LARGEST.primes, (LARGEST.bits,) * 3)
    packed = np.empty(blocks * form.packed_words(DEGREE), np.uint32)
    rows.pack(values, form, packed)
    if kernel == "add":
        actions = (lambda: rows.add(total, packed, form), lambda: np.add(total, values, out=total))
    else:
        actions = (lambda: rows.all_below(packed, form, DEGREE), lambda: np.max(values))
    ours_s, _, ratio = alternate(benchmark, *actions, pairs)
    benchmark.extra_info["rows"] = [
        (
            f"speed of rows.{kernel} over NumPy's on unpacked words, {values.nbytes >> 10:,} KiB",
            f"{1 / ratio:.2f} ({ours_s * 1e9 / values.size:.2f} ns a residue)",
            f"≥ {SPEED_LEAST}",
        )
    ]


@numba.njit("void(uint32[::1], uint32, uint32, uint32, int64)")
def bare_products(row: np.ndarray, factor: int, quotient: int, prime: int, times: int) -> None:
    for _ in range(times):
        for i in range(row.shape[0]):
            high = np.uint32((np.uint64(row[i]) * np.uint64(quotient)) >> np.uint64(32))
            row[i] = np.uint32(np.uint32(row[i] * factor) - np.uint32(high * prime))


def test_transform_over_bare_products(benchmark: BenchmarkFixture) -> None:
    basis = ntt.Basis.of(LARGEST.primes, LARGEST.generators, DEGREE)
    values = np.full((7, 3, DEGREE), 12_345, np.uint32)
    factor = np.full((3, DEGREE), 54_321, np.uint32)
    quotients = ntt.quotients(factor, basis)
    row, rows = np.full(DEGREE // 2, 12_345, np.uint32), 7 * 3
    quotient = (54_321 << 32) // LARGEST.primes[0]
    ours_s, _, ratio = alternate(
        benchmark,
        lambda: ntt.multiply_inverse(values, factor, quotients, basis),
        lambda: bare_products(row, 54_321, quotient, LARGEST.primes[0], rows * (STAGES + 2)),
        300,
    )
    butterfly_ns = ours_s * 1e9 / (rows * STAGES * DEGREE / 2)
    benchmark.extra_info["rows"] = [
        (
            "a product and inverse transform of 4,096 coefficients, over its bare multiplications",
            f"{ratio:.2f} ({ours_s / rows * 1e6:.1f} µs, {butterfly_ns:.2f} ns a butterfly)",
            "",
        )
    ]


@pytest.mark.parametrize("std", ["4.5", "6.364"])
def test_sampling_over_its_keystream(benchmark: BenchmarkFixture, std: str) -> None:
    table = gaussian.cumulative_table(gaussian.KEY_VARIANCE if std == "4.5" else gaussian.ERROR_VARIANCE)
    seed, samples = os.urandom(32), 1 << 16
    draws, out = keystream.words(seed, seed, "error", samples, 64), np.empty(samples, np.int32)
    ours_s, _, ratio = alternate(
        benchmark,
        lambda: gaussian.sample(draws, table, out),
        lambda: keystream.words(seed, seed, "error", samples, 64),
        200,
    )
    benchmark.extra_info["rows"] = [
        (f"Gaussian samples, std {std}, over their AES keystream", f"{ratio:.1f} ({ours_s / samples * 1e9:.1f} ns)", "")
    ]
