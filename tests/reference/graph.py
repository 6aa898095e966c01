"""k, t and the graph by exact integers: binomials instead of logarithms, an adjacency test instead of arithmetic."""

from fractions import Fraction
from math import ceil, comb

from tests.reference.digest import digest


def complete_threshold(n: int, roster: int) -> int:
    corrupt = ceil(Fraction(roster, 3)) - 1
    return max((2 * n) // 3 + 1, (n + corrupt) // 2 + 1)


def fewest(roster: int) -> int:
    """The smallest n <= 100 whose threshold can be met at all."""
    return next(n for n in range(2, roster + 1) if complete_threshold(n, roster) <= n)


def ways(population: int, marked: int, drawn: int) -> list[int]:
    """In how many draws exactly j are marked, j = 0..drawn."""
    return [comb(marked, j) * comb(population - marked, drawn - j) for j in range(drawn + 1)]


def worst_corrupt(n: int, k: int, corrupt: int, security_bits: int) -> int:
    """(ii): a, the fewest that at most a share 2^-(sigma+1)/n of all draws exceeds; exact integers."""
    counts = ways(n - 1, corrupt, k)
    a, beyond = k, 0
    while a > 0 and n * (beyond + counts[a]) * 2 ** (security_bits + 1) <= comb(n - 1, k):
        beyond += counts[a]
        a -= 1
    return a


def holds(n: int, k: int, corrupt: int, dropped: int, malicious: bool, security_bits: int, eta: int) -> int:
    """t when this k meets (i) to (iv), else 0."""
    if n * (n - k - 1) * comb(corrupt + dropped, k) * 2 ** (security_bits + 1) > 2 * comb(n, k):
        return 0
    a = worst_corrupt(n, k, corrupt, security_bits)
    t = (k + a) // 2 + 1 if malicious else a + 1
    starved = sum(ways(n - 1, dropped, k)[k - t + 1 :])  # draws in which fewer than t neighbours survive
    return t if t <= k and n * starved * 2**eta <= comb(n - 1, k) else 0


def sparse(
    n: int, roster: int, gamma: str, delta: str, malicious: bool, security_bits: int, eta: int
) -> tuple[int, int]:
    """(k, t) above 100 clients; the fractions as decimal text."""
    corrupt, dropped = ceil(Fraction(gamma) * roster), ceil(Fraction(delta) * n)
    for k in range(2, n, 2):
        t = holds(n, k, corrupt, dropped, malicious, security_bits, eta)
        if t:
            return k, t
    raise ValueError("no degree")


def permutation(ctx1: bytes, n: int) -> list[int]:
    """order[place] = position, by Fisher–Yates from the last place down."""
    stream, block, order = [], 0, list(range(n))
    for last in reversed(range(1, n)):
        while True:
            if not stream:
                raw = digest("graph permutation", ctx1, block)
                stream = [int.from_bytes(raw[i : i + 4], "big") for i in range(0, 32, 4)]
                block += 1
            word = stream.pop(0)
            if word < (2**32 // (last + 1)) * (last + 1):
                break
        j = word % (last + 1)
        order[last], order[j] = order[j], order[last]
    return order


def neighbours(ctx1: bytes, n: int, k: int, position: int) -> list[int]:
    """All positions at most k/2 places away on the circle, tried one by one."""
    order = permutation(ctx1, n)
    place = order.index(position)
    near = []
    for where, other in enumerate(order):
        apart = abs(where - place)
        if other != position and min(apart, n - apart) <= k // 2:
            near.append(other)
    return sorted(near)
