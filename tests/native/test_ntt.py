import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native import ntt
from native.ntt import Basis, Residues
from tests.reference import ntt as reference

PRIMES, GENERATORS = [1073692673, 1073668097, 1073651713], [3, 3, 10]
LATTICE = {size: Basis.of(PRIMES, GENERATORS, size) for size in (2, 4, 8, 16, 32, 64, 128, 4096)}
SMALL = [size for size in LATTICE if size < 4096]
DILITHIUM_PRIME, DILITHIUM_ZETA = 8380417, 1753  # FIPS 204, table 1
FALCON_PRIME = 12289  # Falcon's specification, table 3.3


def random_residues(basis: Basis, seed: int) -> Residues:
    shape = (len(basis.primes), basis.forward.shape[2])
    return np.random.default_rng(seed).integers(0, basis.primes[:, None], shape).astype(np.uint32)


def product(a: Residues, b: Residues, basis: Basis) -> Residues:
    values, factor = a.copy(), b.copy()
    ntt.forward(values, basis)
    ntt.forward(factor, basis)
    ntt.multiply_inverse(values[None], factor, ntt.quotients(factor, basis), basis)
    return values


def schoolbook(a: Residues, b: Residues, basis: Basis) -> list[list[int]]:
    rows = zip(a.tolist(), b.tolist(), basis.primes.tolist(), strict=True)
    return [reference.product(left, right, q) for left, right, q in rows]


@pytest.mark.parametrize("size", SMALL)
def test_product_is_the_schoolbook_product(size: int) -> None:
    basis = LATTICE[size]
    a, b = random_residues(basis, size), random_residues(basis, size + 1)
    assert product(a, b, basis).tolist() == schoolbook(a, b, basis)


@pytest.mark.parametrize("size", SMALL)
def test_both_twins_agree(size: int) -> None:
    a, b = (random_residues(LATTICE[size], seed)[0].tolist() for seed in (5, 6))
    assert reference.product(a, b, PRIMES[0]) == reference.product_in_one_integer(a, b, PRIMES[0])


def test_dense_product_of_4096_coefficients() -> None:
    a, b = random_residues(LATTICE[4096], 1), random_residues(LATTICE[4096], 2)
    rows = zip(a.tolist(), b.tolist(), PRIMES, strict=True)
    expected = [reference.product_in_one_integer(left, right, q) for left, right, q in rows]
    assert product(a, b, LATTICE[4096]).tolist() == expected


def test_sparse_product_of_4096_coefficients_wraps_with_a_minus_sign() -> None:
    basis = LATTICE[4096]
    a, b = np.zeros((3, 4096), np.uint32), random_residues(basis, 3)
    a[:, [0, 1, 63, 64, 2047, 4095]] = random_residues(basis, 4)[:, :6]
    assert product(a, b, basis).tolist() == schoolbook(a, b, basis)
    last, x = np.zeros((3, 4096), np.uint32), np.zeros((3, 4096), np.uint32)
    last[:, 4095] = x[:, 1] = 1
    minus_one = np.zeros((3, 4096), np.uint32)
    minus_one[:, 0] = basis.primes - 1
    assert np.array_equal(product(last, x, basis), minus_one)


@pytest.mark.parametrize(("q", "generator", "size"), [(5, 2, 2), (17, 3, 8), (257, 3, 128)])
def test_the_smallest_primes(q: int, generator: int, size: int) -> None:
    basis = Basis.of([q], [generator], size)
    a, b = random_residues(basis, 7), random_residues(basis, 8)
    assert product(a, b, basis).tolist() == schoolbook(a, b, basis)


def dilithium() -> Basis:
    """With the power of the primitive root 10 that leads to FIPS 204's zeta."""
    root = pow(10, (DILITHIUM_PRIME - 1) // 512, DILITHIUM_PRIME)
    power = next(k for k in range(1, 512, 2) if pow(root, k, DILITHIUM_PRIME) == DILITHIUM_ZETA)
    return Basis.of([DILITHIUM_PRIME], [pow(10, power, DILITHIUM_PRIME)], 256)


def test_dilithium_ring() -> None:
    basis = dilithium()
    a, b = random_residues(basis, 9), random_residues(basis, 10)
    assert product(a, b, basis).tolist() == schoolbook(a, b, basis)


def test_dilithium_transform_as_fips_204_defines_it() -> None:
    """FIPS 204, 7.5: entry i is w(zeta^(2·BitRev8(i) + 1)); ours is that order, transposed as 16 by 16."""
    basis = dilithium()
    values = random_residues(basis, 11)
    w = values[0].tolist()
    points = [pow(DILITHIUM_ZETA, 2 * int(f"{i:08b}"[::-1], 2) + 1, DILITHIUM_PRIME) for i in range(256)]
    ntt.forward(values, basis)
    assert values.reshape(16, 16).T.ravel().tolist() == [reference.value(w, x, DILITHIUM_PRIME) for x in points]


def reversals(bits: int) -> list[int]:
    return [sum((i >> bit & 1) << (bits - 1 - bit) for bit in range(bits)) for i in range(2**bits)]


@pytest.mark.parametrize("size", SMALL)
def test_order_of_a_transform(size: int) -> None:
    """Entry c·R + r is the value at ψ^(2k + 1), k = rev(c)·R + rev(r)."""
    bits = size.bit_length() - 1
    rows = 2 ** ((bits + 1) // 2)
    values = random_residues(LATTICE[size], 12)
    polynomials = values.tolist()
    ntt.forward(values, LATTICE[size])
    for polynomial, q, generator, row in zip(polynomials, PRIMES, GENERATORS, values.tolist(), strict=True):
        psi = pow(generator, (q - 1) // (2 * size), q)
        ks = [c * rows + r for c in reversals(bits // 2) for r in reversals((bits + 1) // 2)]
        assert row == [reference.value(polynomial, pow(psi, 2 * k + 1, q), q) for k in ks]


@pytest.mark.parametrize("size", [512, 1024])
def test_falcon_rings(size: int) -> None:
    basis = Basis.of([FALCON_PRIME], [11], size)
    a, b = random_residues(basis, 13), random_residues(basis, 14)
    assert product(a, b, basis).tolist() == schoolbook(a, b, basis)


@pytest.mark.parametrize("size", LATTICE)
def test_inverse_of_the_transform_is_the_polynomial(size: int) -> None:
    basis = LATTICE[size]
    values = random_residues(basis, 15)
    before, ones = values.copy(), np.ones_like(values)
    ntt.forward(values, basis)
    assert not np.array_equal(values, before)
    ntt.multiply_inverse(values[None], ones, ntt.quotients(ones, basis), basis)
    assert np.array_equal(values, before)


@pytest.mark.parametrize("size", LATTICE)
def test_the_transform_is_linear(size: int) -> None:
    basis = LATTICE[size]
    primes = basis.primes[:, None]
    a, b = random_residues(basis, 16), random_residues(basis, 17)
    total = (a + b) % primes
    for values in (a, b, total):
        ntt.forward(values, basis)
    assert np.array_equal((a + b) % primes, total)


@pytest.mark.parametrize("size", LATTICE)
@pytest.mark.parametrize("left", [0, 1, 2, -1, -2])
@pytest.mark.parametrize("right", [0, 1, -1])
def test_constant_transforms_at_the_ends_of_the_range(size: int, left: int, right: int) -> None:
    """A transform that is the same everywhere is a constant polynomial."""
    basis = LATTICE[size]
    primes = basis.primes.astype(np.int64)[:, None]
    values, factor = (np.broadcast_to(x % primes, (3, size)).astype(np.uint32) for x in (left, right))
    ntt.multiply_inverse(values[None], factor, ntt.quotients(factor, basis), basis)
    expected = np.zeros((3, size), np.int64)
    expected[:, :1] = left * right % primes
    assert np.array_equal(values, expected)


@settings(deadline=None)
@given(size=st.sampled_from(list(LATTICE)), seed=st.integers(0, 2**32), data=st.data())
def test_results_are_reduced_and_right_for_extreme_values(size: int, seed: int, data: st.DataObject) -> None:
    """Rows of 0, 1, q - 1 and the like, as coefficients and as transforms; checked through the other direction."""
    basis = LATTICE[size]
    primes = basis.primes.astype(np.uint64)[:, None]
    kinds = np.array(data.draw(st.sampled_from([[-1], [0, -1], [1, -1], [-1, -2], [0, 1, 2, -1, -2]])))
    rng = np.random.default_rng(seed)
    a, b = ((rng.choice(kinds, (3, size)) % primes.astype(np.int64)).astype(np.uint32) for _ in range(2))
    values = a.copy()
    ntt.multiply_inverse(values[None], b, ntt.quotients(b, basis), basis)
    assert (values < primes).all()
    ntt.forward(values, basis)
    assert np.array_equal(values, a.astype(np.uint64) * b % primes)
    values = a.copy()
    ntt.forward(values, basis)
    assert (values < primes).all()
    ones = np.ones_like(a)
    ntt.multiply_inverse(values[None], ones, ntt.quotients(ones, basis), basis)
    assert np.array_equal(values, a)


@settings(deadline=None)
@given(data=st.data(), q=st.sampled_from([5, 17, 257, FALCON_PRIME, DILITHIUM_PRIME, *PRIMES]))
def test_quotients_are_exact(data: st.DataObject, q: int) -> None:
    basis = Basis.of([q], [{5: 2, FALCON_PRIME: 11, DILITHIUM_PRIME: 10, PRIMES[2]: 10}.get(q, 3)], 2)
    drawn = data.draw(st.lists(st.integers(0, q - 1), max_size=20))
    factor = [0, 1, 2, q // 2, q // 2 + 1, q - 2, q - 1, *drawn]
    assert ntt.quotients(np.array([factor], np.uint32), basis).tolist() == [[(v << 32) // q for v in factor]]


def test_quotients_of_every_residue_of_a_small_prime() -> None:
    every = np.arange(FALCON_PRIME, dtype=np.uint32)[None]
    expected = (every.astype(np.uint64) << np.uint64(32)) // np.uint64(FALCON_PRIME)
    assert np.array_equal(ntt.quotients(every, Basis.of([FALCON_PRIME], [11], 2)), expected)


@pytest.mark.parametrize("size", [0, 1, 3, 4095, -4])
def test_sizes_that_are_no_power_of_two_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Basis.of(PRIMES, GENERATORS, size)


@pytest.mark.parametrize("prime", [PRIMES[0] + 2, FALCON_PRIME, 2**30 + 8193, 2**32 + 1, 1, 0, -8191])
def test_primes_that_do_not_fit_are_refused(prime: int) -> None:
    with pytest.raises(ValueError, match="not below 2\\^30 and 1 mod 8192"):
        Basis.of([PRIMES[0], prime], [3, 3], 4096)


@pytest.mark.parametrize("generator", [0, 1, -1, 9, PRIMES[0], 5**2])
def test_generators_of_a_smaller_group_are_refused(generator: int) -> None:
    with pytest.raises(ValueError, match="no primitive root of order 8192"):
        Basis.of([PRIMES[0]], [generator], 4096)


@pytest.mark.parametrize(("primes", "generators"), [([], []), (PRIMES, [3, 3]), (PRIMES[:1], GENERATORS)])
def test_one_generator_for_each_prime(primes: list[int], generators: list[int]) -> None:
    with pytest.raises(ValueError, match="generators"):
        Basis.of(primes, generators, 16)


@pytest.mark.parametrize("shape", [(2, 16), (4, 16), (3, 8), (3, 32), (3, 0), (0, 16)])
def test_other_shapes_are_refused_not_read_beyond(shape: tuple[int, int]) -> None:
    basis, right = LATTICE[16], np.zeros((3, 16), np.uint32)
    wrong = np.zeros(shape, np.uint32)
    with pytest.raises(ValueError, match="forward"):
        ntt.forward(wrong, basis)
    for arguments in [(wrong, right, right), (right, wrong, right), (right, right, wrong), (wrong, wrong, wrong)]:
        with pytest.raises(ValueError, match="multiply_inverse"):
            ntt.multiply_inverse(arguments[0][None], *arguments[1:], basis)


@pytest.mark.parametrize("rows", [0, 2, 4])
def test_quotients_need_a_row_for_each_prime(rows: int) -> None:
    with pytest.raises(ValueError, match="one row per prime"):
        ntt.quotients(np.zeros((rows, 16), np.uint32), LATTICE[16])


def test_other_dtypes_and_strided_rows_are_refused() -> None:
    for wrong in (np.zeros((3, 16), np.uint64), np.zeros((3, 16), np.int32), np.zeros((3, 32), np.uint32)[:, ::2]):
        with pytest.raises(TypeError):
            ntt.forward(wrong, LATTICE[16])


def test_the_factor_is_only_read() -> None:
    basis = LATTICE[16]
    values, factor = random_residues(basis, 18), random_residues(basis, 19)
    quotients = ntt.quotients(factor, basis)
    factor.flags.writeable = quotients.flags.writeable = False
    ntt.multiply_inverse(values[None], factor, quotients, basis)
    assert np.array_equal(factor, random_residues(basis, 19))


def test_several_polynomials_at_once_are_the_polynomials_one_by_one() -> None:
    basis = LATTICE[16]
    values = np.stack([random_residues(basis, seed) for seed in range(3)])
    factor = random_residues(basis, 9)
    quotients = ntt.quotients(factor, basis)
    together = values.copy()
    ntt.multiply_inverse(together, factor, quotients, basis)
    for polynomial, product in zip(values, together, strict=True):
        ntt.multiply_inverse(polynomial[None], factor, quotients, basis)
        assert np.array_equal(polynomial, product)
