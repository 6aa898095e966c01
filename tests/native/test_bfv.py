"""That the bytes are right is tested against the twin, and by TenSEAL, in tests/protocol/test_homomorphic.py."""

import numpy as np
import pytest

from native import batching, bfv, gaussian, ntt, rows

PRIMES, SIZE, ROOT = (1_073_692_673, 1_073_668_097), 64, 33
DRAWS = np.random.default_rng(1).integers(0, 2**64, 6 * SIZE, np.uint64)
ERRORS = gaussian.cumulative_table(gaussian.KEY_VARIANCE)
NONE = np.array([2**63 - 1])  # |u| is 0 but once in 2^63


def recipient(tables: tuple[np.ndarray, np.ndarray] = (NONE, ERRORS), width: int = 30) -> bfv.Recipient:
    basis = ntt.Basis.of(PRIMES, (3, 3), SIZE)
    slots = batching.Slots.of(257, smallest_root(), PRIMES, SIZE, (2, 4))
    key = np.ones((2, 2, 2, SIZE), np.uint32)
    return bfv.Recipient(basis, slots, rows.Rows.of(PRIMES, (width, width)), key, tables)


def smallest_root() -> int:
    return next(g for g in range(2, 257) if pow(g, SIZE, 257) == 256)


def test_with_u_zero_a_ciphertext_is_its_errors_and_its_message() -> None:
    to, out = recipient(), np.empty(2 * 2 * 2 * SIZE * 30 // 32, np.uint32)
    words = np.arange(3 * SIZE, dtype=np.uint32) % 16  # a block and a half
    bfv.encrypt(words, DRAWS[: 2 * SIZE], DRAWS[: 4 * SIZE], out, to)
    residues = np.empty((8, SIZE), np.uint32)
    rows.unpack(out, to.rows, residues)
    found = residues.reshape(2, 2, 2, SIZE).astype(np.int64)
    errors, scaled = np.empty(4 * SIZE, np.int32), np.empty(SIZE, np.uint64)
    gaussian.sample(DRAWS[: 4 * SIZE], ERRORS, errors)
    for block, e in enumerate(errors.reshape(2, 2, SIZE)):
        batching.encode(words[block * 2 * SIZE : (block + 1) * 2 * SIZE], scaled, to.slots)
        want = np.zeros((2, SIZE), np.uint32)
        batching.add_message(want, e[0], scaled, to.slots)
        assert found[block, 0].tolist() == want.tolist()
        assert found[block, 1].tolist() == [(e[1] % prime).tolist() for prime in PRIMES]


def test_shapes_that_do_not_fit_are_refused() -> None:
    to, words, out = recipient(), np.zeros(2 * SIZE, np.uint32), np.empty(4 * SIZE * 30 // 32, np.uint32)
    bfv.encrypt(words, DRAWS[:SIZE], DRAWS[: 2 * SIZE], out, to)
    for u, e in ((DRAWS[: SIZE - 1], DRAWS[: 2 * SIZE]), (DRAWS[:SIZE], DRAWS[:SIZE])):
        with pytest.raises(ValueError, match="draws do not fit"):
            bfv.encrypt(words, u, e, out, to)
    for x, room in ((np.zeros(2 * SIZE + 1, np.uint32), out), (words[:0], out), (words, out[:-1])):
        with pytest.raises(ValueError, match="entries or output do not fit"):
            bfv.encrypt(x, DRAWS[:SIZE], DRAWS[: 2 * SIZE], room, to)
    short = bfv.Recipient(to.basis, to.slots, to.rows, to.key[:, :, :1].copy(), to.tables)
    with pytest.raises(ValueError, match="the key does not fit"):
        bfv.encrypt(words, DRAWS[:SIZE], DRAWS[: 2 * SIZE], out, short)
