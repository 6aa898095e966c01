"""A block of entries becomes a BFV ciphertext, packed: one call, without the GIL, for several blocks.

    (b·u + e0 + round(Q·m / t),  a·u + e1)      u from draws, on {-1, 0, 1}; e0, e1 discrete Gaussians from draws

All that it does is other kernels' work: native.gaussian samples, native.ntt multiplies, native.batching makes m of the
entries, native.rows says how residues travel. In one call, since a call per step costs a block of 160 µs another 150,
and threads then spend their time waiting for each other.

Source: Fan and Vercauteren 2012 (eprint 2012/144).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from native import batching, limbs, ntt
from native._jit import kernel
from native.gaussian import sample
from native.ring import Words
from native.rows import Rows, pack_row

Residues = NDArray[np.uint32]
Draws = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Recipient:
    """Under what is encrypted: public tables and a public key, all read-only.

    basis, slots, rows: of the same n and primes. key: uint32[2, 2, primes, n], the transforms of b and of a, then
    `ntt.quotients` of each. tables: cumulative tables of |u| and of |e|, as `gaussian.sample` takes them.
    """

    basis: ntt.Basis = field(repr=False)
    slots: batching.Slots = field(repr=False)
    rows: Rows = field(repr=False)
    key: Residues = field(repr=False)
    tables: tuple[NDArray[np.int64], NDArray[np.int64]] = field(repr=False)


def encrypt(words: Words, ephemeral: Draws, errors: Draws, out: Residues, to: Recipient) -> None:
    """Encrypt blocks of entries. Run by the client; time depends on shapes only.

    Args:
        words: [entries], those of all blocks but the last fill their slots; as `batching.encode` takes them.
        ephemeral: [blocks · n] uniform draws for u; secret.
        errors: [blocks · 2n] uniform draws for e0 and e1 of each block; secret.
        out: the words of every block's packed rows, to be filled.
        to: the recipient.

    Raises:
        ValueError: the shapes do not fit.
    """
    slots, basis = to.slots, to.basis
    _encrypt(
        words,
        (ephemeral, errors, *to.tables),
        out,
        (basis.primes, basis.forward, basis.inverse, to.key, to.rows.widths),
        (slots.modulus, slots.digit_bits, slots.block_entries, slots.places, slots.roots, slots.scales),
    )


_ROW, _WIDE = "Array(uint32, 1, 'C', readonly=True)", "Array(int64, 1, 'C', readonly=True)"
_CUBE, _BLOCK = "Array(uint32, 3, 'C', readonly=True)", "Array(uint32, 4, 'C', readonly=True)"
_DRAWS, _ROOTS = "Array(uint64, 1, 'C', readonly=True)", "Array(uint64, 2, 'C', readonly=True)"
_REST = (
    f"Tuple(({_DRAWS}, {_DRAWS}, {_WIDE}, {_WIDE})), uint32[::1], "
    f"Tuple(({_ROW}, {_CUBE}, {_CUBE}, {_BLOCK}, {_ROW})), Tuple((int64, int64, int64, {_WIDE}, {_ROOTS}, {_CUBE}))"
)


@kernel(f"void({_ROW}, {_REST})", f"void({_DRAWS}, {_REST})")
def _encrypt(words: Words, draws: Any, out: Residues, ring: Any, block_shape: Any) -> None:
    primes, forward, inverse, key, widths = ring
    modulus, digit_bits, block_entries, places, roots, scales = block_shape
    ephemeral, errors, magnitude_of_u, magnitude_of_e = draws
    count, size = primes.shape[0], places.shape[0]
    blocks, block_words = ephemeral.shape[0] // size, 2 * (size // 32) * np.int64(widths.sum())
    if ephemeral.shape[0] != blocks * size or errors.shape[0] != 2 * blocks * size:
        raise ValueError("bfv.encrypt: draws do not fit")
    if out.shape[0] != blocks * block_words or (words.shape[0] + block_entries - 1) // block_entries != blocks:
        raise ValueError("bfv.encrypt: entries or output do not fit")
    if key.shape != (2, 2, count, size) or widths.shape[0] != count:
        raise ValueError("bfv.encrypt: the key does not fit")
    u, e, scaled = np.empty(size, np.int32), np.empty((2, size), np.int32), np.empty(size, np.uint64)
    products, lifted = np.empty((2, count, size), np.uint32), np.empty((count, size), np.uint32)
    for block in range(blocks):
        sample(ephemeral[block * size : (block + 1) * size], magnitude_of_u, u)
        sample(errors[2 * block * size : 2 * (block + 1) * size], magnitude_of_e, e.reshape(2 * size))
        limbs.lift(u, products[0], primes)
        ntt.forward_kernel(products[0], primes, forward)
        products[1] = products[0]
        for part in range(2):
            ntt.multiply_inverse_kernel(products[part : part + 1], key[0, part], key[1, part], primes, inverse)
        batching.encode_kernel(
            words[block * block_entries : min(words.shape[0], (block + 1) * block_entries)],
            scaled,
            (np.uint64(modulus), np.uint64(digit_bits)),
            places,
            roots,
        )
        batching.add_message_kernel(products[0], e[0], scaled, np.uint64(modulus), (primes, scales))
        limbs.lift(e[1], lifted, primes)
        limbs.add(products[1], lifted, primes)
        start = block * block_words
        for j in range(2 * count):
            stop = start + size // 32 * np.int64(widths[j % count])
            pack_row(products[j // count, j % count], widths[j % count], out[start:stop])
            start = stop
