"""Negacyclic number-theoretic transforms: products in Z_q[X]/(X^n + 1), for several primes q < 2^30 at once.

A polynomial is a row of n residues, one row per prime: uint32[primes, n], row i mod primes[i]. Its transform holds its
values at ψ^1, ψ^3 ... ψ^(2n-1), ψ a primitive 2n-th root of one, so products are entry by entry. Order of a transform,
with n = C·R, R = 2^ceil(log2(n)/2): entry c·R + r is the value at ψ^(2k+1), k = rev(c)·R + rev(r), that is, with the
bits of each half reversed in place (standard bit-reversed order, transposed as C by R).

Why that order: the first stages pair entries C or more apart, which is a long loop; then the R by C matrix is
transposed once, so that the other stages are long loops as well, and nothing transposes it back. At n = 4096
`multiply_inverse` takes 4.7 µs per prime with AVX-512 and 6.0 with AVX2, where distances down to 1 took 18.

Products are Shoup's, with a quotient computed in advance per factor; values stay below 4q between stages. Nothing
branches on a value or divides by one: they may be secret.

Source: D. Harvey, Faster arithmetic for number-theoretic transforms, 2014, algorithms 2 to 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from native._jit import inlined, kernel
from native.shoup import below, product

Residues = NDArray[np.uint32]

PRIME_LIMIT = 2**30
"""Primes lie below it, so that 4q fits a word."""


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """What transforms of one size modulo these primes need, all public; made by `Basis.of`.

    primes: uint32[primes]. forward, inverse: uint32[2, primes, n], powers of ψ and of 1/ψ, and then the quotient
    floor(root · 2^32 / q) of each. Block b of the stage of m blocks has its root at m + b where m < R; later stages
    have it at m + c·R + r, where b = r·(m / R) + c, the order of their loops. Entry 0 is 1 in `forward`, where no stage
    reads it, and 1/n in `inverse`, where entry 1 has that factor too.
    """

    primes: Residues
    forward: Residues
    inverse: Residues

    @classmethod
    def of(cls, primes: Sequence[int], generators: Sequence[int], size: int) -> "Basis":
        """Compute the tables for n = size; ψ of each prime q is generator^((q - 1) / 2n) mod q.

        Raises:
            ValueError: size is not a power of two of at least 2; not one generator per prime; a prime is not 1 mod 2n,
                or not below 2^30; or ψ is not a primitive 2n-th root of one.
        """
        if size < 2 or size & (size - 1):
            raise ValueError(f"a transform has a power of two of entries, and at least 2, not {size}")
        if not primes or len(primes) != len(generators):
            raise ValueError(f"{len(primes)} primes and {len(generators)} generators")
        roots = [_primitive_root(q, g, size) for q, g in zip(primes, generators, strict=True)]
        order = _exponents(size)
        forward = [_powers(root, q, order) for root, q in zip(roots, primes, strict=True)]
        inverse = [_powers(pow(root, -1, q), q, order) for root, q in zip(roots, primes, strict=True)]
        for row, q in zip(inverse, primes, strict=True):
            row[:2] = [pow(size, -1, q), row[1] * pow(size, -1, q) % q]
        moduli = np.array(primes, np.uint32)
        tables = [np.array(table, np.uint32) for table in (forward, inverse)]
        return cls(moduli, *(np.stack([table, _quotients(table, moduli)]) for table in tables))


def _primitive_root(prime: int, generator: int, size: int) -> int:
    """ψ with ψ^n = -1: it then has order 2n modulo every factor of `prime`, which is all that a transform needs."""
    if not 2 < prime < PRIME_LIMIT or prime % (2 * size) != 1:
        raise ValueError(f"{prime} is not below 2^30 and 1 mod {2 * size}")
    root = pow(generator, (prime - 1) // (2 * size), prime)
    if pow(root, size, prime) != prime - 1:
        raise ValueError(f"{generator} gives no primitive root of order {2 * size} mod {prime}")
    return root


def _exponents(size: int) -> list[int]:
    """The exponent of the root at each place of a table: bit-reversed, in the order that `Basis` describes."""
    bits = size.bit_length() - 1
    rows = 1 << (bits + 1) // 2
    exponents = [0] * size
    for index in range(1, size):
        blocks = 1 << (index.bit_length() - 1)
        row, column = divmod(index - blocks, max(1, blocks // rows))
        place = index if blocks < rows else blocks + column * rows + row
        exponents[place] = int(f"{index:0{bits}b}"[::-1], 2)
    return exponents


def _powers(root: int, prime: int, exponents: list[int]) -> list[int]:
    powers = [1]
    for _ in exponents[1:]:
        powers.append(powers[-1] * root % prime)
    return [powers[exponent] for exponent in exponents]


def forward(values: Residues, basis: Basis) -> None:
    """Transform each row in place; values and results in [0, q). uint32[primes, n], coefficient i at entry i.

    Raises:
        ValueError: the shape is not that of the basis.
    """
    forward_kernel(values, basis.primes, basis.forward)


def quotients(values: Residues, basis: Basis) -> Residues:
    """Shoup's quotients floor(v · 2^32 / q) of a factor of many products; as secret as `values`, which are in [0, q).

    Raises:
        ValueError: `values` has not one row per prime.
    """
    return _quotients(values, basis.primes)


def multiply_inverse(values: Residues, factor: Residues, factor_quotients: Residues, basis: Basis) -> None:
    """From transforms to the products of their polynomials with another: values = inverse(values · factor), in place.

    Args:
        values: transforms, uint32[polynomials, primes, n] in [0, q); then coefficients, in [0, q).
        factor: the other transform, uint32[primes, n].
        factor_quotients: `quotients(factor, basis)`.
        basis: of these primes and n.

    Raises:
        ValueError: a shape is not that of the basis.
    """
    multiply_inverse_kernel(values, factor, factor_quotients, basis.primes, basis.inverse)


# The stages below take whole views and make their own rows: a helper that LLVM doesn't inline counts references of the
# arrays it is handed, atomically, and with a call per row that tripled the time.


@inlined
def _split(pairs: Any, roots: Any, quotients: Any, q: Any) -> None:
    """A forward stage over [blocks, 2, distance] with a root per block: (x, y) -> (x + wy, x - wy), all below 4q."""
    twice = np.uint32(q + q)
    for block in range(pairs.shape[0]):
        x, y, root, quotient = pairs[block, 0], pairs[block, 1], roots[block], quotients[block]
        for i in range(x.shape[0]):
            kept, turned = below(x[i], twice), product(y[i], root, quotient, q)
            x[i] = np.uint32(kept + turned)
            y[i] = np.uint32(kept - turned + twice)


@inlined
def _split_rows(pairs: Any, roots: Any, quotients: Any, q: Any) -> None:
    """The same over [blocks, 2, distance, rows], transposed, with a root per block and row."""
    twice = np.uint32(q + q)
    for block in range(pairs.shape[0]):
        for j in range(pairs.shape[2]):
            x, y, root, quotient = pairs[block, 0, j], pairs[block, 1, j], roots[block], quotients[block]
            for i in range(x.shape[0]):
                kept, turned = below(x[i], twice), product(y[i], root[i], quotient[i], q)
                x[i] = np.uint32(kept + turned)
                y[i] = np.uint32(kept - turned + twice)


@inlined
def _merge(pairs: Any, roots: Any, quotients: Any, q: Any) -> None:
    """An inverse stage over [blocks, 2, distance]: (x, y) -> (x + y, (x - y) / w), all below 2q."""
    twice = np.uint32(q + q)
    for block in range(pairs.shape[0]):
        x, y, root, quotient = pairs[block, 0], pairs[block, 1], roots[block], quotients[block]
        for i in range(x.shape[0]):
            total, difference = np.uint32(x[i] + y[i]), np.uint32(x[i] - y[i] + twice)
            x[i] = below(total, twice)
            y[i] = product(difference, root, quotient, q)


@inlined
def _merge_rows(pairs: Any, roots: Any, quotients: Any, q: Any) -> None:
    """The same over [blocks, 2, distance, rows], transposed, with a root per block and row."""
    twice = np.uint32(q + q)
    for block in range(pairs.shape[0]):
        for j in range(pairs.shape[2]):
            x, y, root, quotient = pairs[block, 0, j], pairs[block, 1, j], roots[block], quotients[block]
            for i in range(x.shape[0]):
                total, difference = np.uint32(x[i] + y[i]), np.uint32(x[i] - y[i] + twice)
                x[i] = below(total, twice)
                y[i] = product(difference, root[i], quotient[i], q)


@inlined
def _merge_last(halves: Any, roots: Any, quotients: Any, q: Any) -> None:
    """The last inverse stage over [2, n / 2], with 1/n as a factor of both sides; results below q."""
    x, y, twice = halves[0], halves[1], np.uint32(q + q)
    for i in range(x.shape[0]):
        total, difference = np.uint32(x[i] + y[i]), np.uint32(x[i] - y[i] + twice)
        x[i] = below(product(total, roots[0], quotients[0], q), q)
        y[i] = below(product(difference, roots[1], quotients[1], q), q)


@inlined
def _transpose(source: Any, target: Any) -> None:
    for column in range(source.shape[1]):
        for row in range(source.shape[0]):
            target[column, row] = source[row, column]


@inlined
def _rows_of(size: Any) -> Any:
    """R = 2^ceil(log2(size) / 2)."""
    rows = 1
    while rows * rows < size:
        rows *= 2
    return rows


_PRIMES, _RESIDUES, _TABLES = (f"Array(uint32, {dimensions}, 'C', readonly=True)" for dimensions in (1, 2, 3))


@kernel(f"void(uint32[:, ::1], {_PRIMES}, {_TABLES})")
def forward_kernel(values: Residues, primes: Residues, tables: Residues) -> None:
    """The kernel of `forward`, for kernels that transform."""
    if tables.shape != (2, primes.shape[0], values.shape[1]) or values.shape[0] != primes.shape[0]:
        raise ValueError("ntt.forward: values do not fit the basis")
    size = values.shape[1]
    rows = _rows_of(size)
    turned = np.empty(size, np.uint32)
    for k in range(primes.shape[0]):
        a, w, wq, q = values[k], tables[0, k], tables[1, k], primes[k]
        m = 1
        while m < rows:
            _split(a.reshape((m, 2, size // (2 * m))), w[m : 2 * m], wq[m : 2 * m], q)
            m *= 2
        _transpose(a.reshape((rows, size // rows)), turned.reshape((size // rows, rows)))
        while m < size:
            by_row = (m // rows, rows)
            pairs = turned.reshape((m // rows, 2, size // (2 * m), rows))
            _split_rows(pairs, w[m : 2 * m].reshape(by_row), wq[m : 2 * m].reshape(by_row), q)
            m *= 2
        for i in range(size):
            a[i] = below(below(turned[i], np.uint32(q + q)), q)


@kernel(f"void(uint32[:, :, ::1], {_RESIDUES}, {_RESIDUES}, {_PRIMES}, {_TABLES})")
def multiply_inverse_kernel(
    values: Residues, factor: Residues, factor_quotients: Residues, primes: Residues, tables: Residues
) -> None:
    """The kernel of `multiply_inverse`, for kernels that multiply."""
    count, size = primes.shape[0], values.shape[2]
    if tables.shape != (2, count, size) or values.shape[1] != count:
        raise ValueError("ntt.multiply_inverse: values do not fit the basis")
    if factor.shape != (count, size) or factor_quotients.shape != (count, size):
        raise ValueError("ntt.multiply_inverse: the factor does not fit")
    rows = _rows_of(size)
    turned = np.empty(size, np.uint32)
    for row in range(values.shape[0] * count):
        k = row % count
        a, w, wq, q = values[row // count, k], tables[0, k], tables[1, k], primes[k]
        for i in range(size):
            turned[i] = product(a[i], factor[k, i], factor_quotients[k, i], q)
        m = size // 2
        while m >= rows:
            by_row = (m // rows, rows)
            pairs = turned.reshape((m // rows, 2, size // (2 * m), rows))
            _merge_rows(pairs, w[m : 2 * m].reshape(by_row), wq[m : 2 * m].reshape(by_row), q)
            m //= 2
        _transpose(turned.reshape((size // rows, rows)), a.reshape((rows, size // rows)))
        while m > 1:
            _merge(a.reshape((m, 2, size // (2 * m))), w[m : 2 * m], wq[m : 2 * m], q)
            m //= 2
        _merge_last(a.reshape((2, size // 2)), w, wq, q)


@kernel(f"uint32[:, ::1]({_RESIDUES}, {_PRIMES})")
def _quotients(values: Residues, primes: Residues) -> Residues:
    """By a product with floor(2^64 / q), at most one too small, since a division's time may tell its operands."""
    if values.shape[0] != primes.shape[0]:
        raise ValueError("ntt.quotients: not one row per prime")
    out = np.empty_like(values)
    for k in range(primes.shape[0]):
        q = primes[k]
        reciprocal = np.uint64(0xFFFFFFFFFFFFFFFF) // np.uint64(q)
        for i in range(values.shape[1]):
            estimate = np.uint32((np.uint64(values[k, i]) * reciprocal) >> np.uint64(32))
            rest = np.uint32(np.uint32(0) - np.uint32(estimate * q))  # v · 2^32 - estimate · q, in [0, 2q)
            out[k, i] = np.uint32(estimate + np.uint32(1) - np.uint32(np.uint32(rest - q) >> np.uint32(31)))
    return out
