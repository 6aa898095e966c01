"""Z_q[X]/(X^n + 1) in plain Python integers, from the definitions; no transform."""


def product(a: list[int], b: list[int], q: int) -> list[int]:
    """Schoolbook: X^n = -1. Terms of a that are zero cost nothing."""
    n = len(a)
    out = [0] * n
    for i, left in enumerate(a):
        for j, right in enumerate(b if left else []):
            out[(i + j) % n] += left * right if i + j < n else -left * right
    return [x % q for x in out]


def product_in_one_integer(a: list[int], b: list[int], q: int) -> list[int]:
    """The same by one product of two long integers, a coefficient in each 16 bytes (Kronecker): for dense n = 4096."""
    n = len(a)
    left, right = (int.from_bytes(b"".join(x.to_bytes(16, "little") for x in v), "little") for v in (a, b))
    long = (left * right).to_bytes(32 * n, "little")
    terms = [int.from_bytes(long[i : i + 16], "little") for i in range(0, 32 * n, 16)]
    return [(low - high) % q for low, high in zip(terms[:n], terms[n:], strict=True)]


def value(a: list[int], point: int, q: int) -> int:
    """a(point) mod q, by Horner's rule."""
    total = 0
    for coefficient in reversed(a):
        total = (total * point + coefficient) % q
    return total
