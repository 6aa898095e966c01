"""The graph of SecAgg+: who masks with whom, who holds whose shares, and how many must answer.

    n <= 100   complete; every client also holds a share of its own secrets.
    n >  100   k-regular Harary graph on a permutation that H(ctx1) decides, never the server.

A position is a client's 0-based index in the ordered list U1 of those whose adverts arrived. Clients recompute
n, k, t and the graph; they never accept them. Roundings, all on the safe side: corrupt = ceil(gamma·|U0|) and
dropped = ceil(delta·n) on the exact decimal that the fraction prints as, bad = corrupt + dropped; neighbours are drawn
from the n - 1 other clients; (ii) and (iv) take their union over all n.

Source: Bell et al. 2020 (SecAgg+, eprint 2020/704), section 3; Bonawitz et al. 2017 (eprint 2017/281).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from aggregator.crypto.canonical import DIGEST_BYTES, Field, digest
from aggregator.errors import ParameterError, RoundAborted

COMPLETE_UP_TO = 100
_LOG_2 = math.log(2.0)
_WORD_RANGE = 2**32

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ThreatModel:
    """What the round must withstand; part of ctx0. Above 100 clients it decides k and t, up to 100 it is not read.

    Args:
        corrupt_fraction: gamma, of the roster, in [0, 1): they collude with the server.
        dropout_fraction: delta, of the clients that advertised, in [0, 1); gamma + delta < 1.
        malicious: whether the server may lie, or only look (semi-honest).
        security_bits: sigma; the graph fails to protect a client with probability at most 2**-sigma.
        failure_bits: eta; an honest round fails for lack of shares with probability at most 2**-eta.

    Raises:
        ParameterError: a field outside these ranges.
    """

    corrupt_fraction: float = 0.1
    dropout_fraction: float = 0.1
    malicious: bool = True
    security_bits: int = 104
    failure_bits: int = 20

    def __post_init__(self) -> None:
        for name in ("corrupt_fraction", "dropout_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ParameterError(f"threat model: {name} must be in [0, 1)")
        if self.corrupt_fraction + self.dropout_fraction >= 1:
            raise ParameterError("threat model: corrupt_fraction + dropout_fraction must be below 1")
        for name, least, most in (("security_bits", 40, 128), ("failure_bits", 10, 64)):
            if not least <= getattr(self, name) <= most:
                raise ParameterError(f"threat model: {name} must be in {least}..{most}")

    def fields(self) -> tuple[Field, ...]:
        """The canonical fields that ctx0 covers: gamma, delta, model, sigma, eta."""
        model = "malicious" if self.malicious else "semi-honest"
        fractions = float(self.corrupt_fraction), float(self.dropout_fraction)
        return (*fractions, model, int(self.security_bits), int(self.failure_bits))

    def fewest_survivors(self, n: int) -> int:
        """The smallest U that a client signs among n: ceil((1-delta)·n) above 100, exact; 0 where only t counts."""
        return 0 if n <= COMPLETE_UP_TO else n - math.floor(Fraction(str(self.dropout_fraction)) * n)


@dataclass(frozen=True, slots=True)
class Degree:
    """k neighbours per client and t shares to recover a secret; complete: each client also holds its own share."""

    k: int
    t: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Graph:
    """Who is whose neighbour among n advertised clients, by position. Made by `build`; public, equal on all sides."""

    n: int
    k: int
    threshold: int
    complete: bool
    _circle: tuple[int, ...] = field(repr=False)  # place -> position, first k repeated at the end; empty when complete
    _place: tuple[int, ...] = field(repr=False)  # position -> place

    def neighbours(self, position: int) -> tuple[int, ...]:
        """The k positions that share a pairwise mask with `position`, sorted, without itself.

        Raises:
            ParameterError: no such position.
        """
        if not 0 <= position < self.n:
            raise ParameterError(f"graph: position {position} is not among {self.n} clients")
        if self.complete:
            return (*range(position), *range(position + 1, self.n))
        reach = self.k // 2
        start = (self._place[position] - reach) % self.n
        before, after = self._circle[start : start + reach], self._circle[start + reach + 1 : start + self.k + 1]
        return tuple(sorted(before + after))

    def holders(self, position: int) -> tuple[int, ...]:
        """The positions that hold a share of its secrets, sorted: its neighbours, and itself when complete."""
        around = self.neighbours(position)
        return tuple(range(self.n)) if self.complete else around


@lru_cache(maxsize=256)
def degree(n: int, roster: int, threat: ThreatModel) -> Degree:
    """Find k and t for n advertised clients of a roster of |U0|. Run by both sides once U1 is known.

    Up to 100: t = max(floor(2n/3) + 1, floor((n + c)/2) + 1), c = ceil(|U0|/3) - 1. Above: the smallest even k that
    meets conditions (i) to (iv), with `bad` = corrupt + dropped:

        (i)   n(n-k-1)/2 · C(bad, k)/C(n, k) <= 2**-(sigma+1)      the honest survivors stay connected
        (ii)  a = the fewest with n · P[Hyp(n-1, corrupt, k) > a] <= 2**-(sigma+1)
        (iii) t = a + 1 semi-honest, floor((k+a)/2) + 1 malicious, so that 2t > k + a
        (iv)  n · P[Hyp(n-1, dropped, k) > k - t] <= 2**-eta       the honest find t shares

    Raises:
        ParameterError: n < 2, n beyond the roster, or a threat model that even the full roster cannot meet.
        RoundAborted: so few of the roster advertised that no threshold protects them (up to 100: n <= c).
    """
    if not 2 <= n <= roster:
        raise ParameterError(f"graph: {n} clients of a roster of {roster}; at least 2, at most the roster")
    found = _complete(n, roster) if n <= COMPLETE_UP_TO else _smallest(n, roster, threat)
    if found is not None:
        return found
    if n < roster:
        raise RoundAborted(f"advertise keys: {n} of {roster} clients are too few for any threshold")
    raise ParameterError(f"graph: no degree meets this threat model among {n} clients")


@lru_cache(maxsize=8)
def build(ctx1: bytes, size: Degree, n: int) -> Graph:
    """The graph of one round. Run by both sides once ctx1 is known.

    The permutation: words are u32 big-endian, eight to a block, block i = digest("graph permutation", ctx1, i) for
    i = 0, 1, ...; start from order[p] = p; for last = n-1 down to 1, take the next word below
    floor(2**32/(last+1))·(last+1) (others are skipped), j = word mod (last+1), swap order[last] and order[j].
    order[place] is the position that stands there; neighbours stand at most k/2 places apart on the circle.

    Raises:
        ParameterError: ctx1 is not 32 bytes, or `size` is not a degree for n clients.
    """
    if len(ctx1) != DIGEST_BYTES:
        raise ParameterError(f"graph: ctx1 must be {DIGEST_BYTES} bytes")
    fits = size.k == n - 1 if size.complete else size.k % 2 == 0 and 2 <= size.k < n
    if not fits or not 1 <= size.t <= size.k + size.complete:
        raise ParameterError(f"graph: k = {size.k}, t = {size.t} do not fit {n} clients")
    order = () if size.complete else _permutation(n, _words(ctx1))
    place = [0] * len(order)
    for where, position in enumerate(order):
        place[position] = where
    return Graph(n, size.k, size.t, size.complete, order + order[: size.k], tuple(place))


def _complete(n: int, roster: int) -> Degree | None:
    corrupt = -(-roster // 3) - 1  # the server can shrink U1, but the corrupt are counted on the roster
    t = max(2 * n // 3 + 1, (n + corrupt) // 2 + 1)
    return Degree(n - 1, t, complete=True) if t <= n else None


def _smallest(n: int, roster: int, threat: ThreatModel) -> Degree | None:
    corrupt = _ceil_share(threat.corrupt_fraction, roster)
    dropped = _ceil_share(threat.dropout_fraction, n)
    if corrupt + dropped >= n:
        return None
    log_factorial = _log_factorials(n)
    hidden = -(threat.security_bits + 1) * _LOG_2 - math.log(n)
    alive = -threat.failure_bits * _LOG_2 - math.log(n)
    for k in _connected(n, corrupt + dropped, threat.security_bits, log_factorial):
        a = int(np.argmax(_log_tails(n - 1, corrupt, k, log_factorial) <= hidden))
        t = (k + a) // 2 + 1 if threat.malicious else a + 1
        if t <= k and _log_tails(n - 1, dropped, k, log_factorial)[k - t] <= alive:
            return Degree(k, t, complete=False)
    return None


def _connected(n: int, bad: int, security_bits: int, log_factorial: _Floats) -> Iterator[int]:
    """The even k that meet (i); the chance that k named clients are all bad is C(bad, k)/C(n, k)."""
    for k in range(2, n, 2):
        if k > bad or k == n - 1:
            yield k
            continue
        all_bad = log_factorial[bad] + log_factorial[n - k] - log_factorial[n] - log_factorial[bad - k]
        if math.log(n * (n - k - 1) / 2) + all_bad <= -(security_bits + 1) * _LOG_2:
            yield k


def _log_tails(population: int, marked: int, drawn: int, log_factorial: _Floats) -> _Floats:
    """The logarithm of P[X > j] for j = 0..drawn, X hypergeometric: marked ones among `drawn` of `population`."""
    least, most = max(0, drawn - (population - marked)), min(marked, drawn)
    hits = np.arange(least, most + 1)
    log_p = (
        _log_choose(marked, hits, log_factorial)
        + _log_choose(population - marked, drawn - hits, log_factorial)
        - _log_choose(population, np.array(drawn), log_factorial)
    )
    at_least = np.logaddexp.accumulate(log_p[::-1])[::-1]  # smallest terms first: nothing is lost by rounding
    tails = np.full(drawn + 1, -np.inf)
    tails[:least] = 0.0
    tails[least:most] = at_least[1:]
    return tails


def _log_choose(n: int, k: npt.NDArray[np.int64], log_factorial: _Floats) -> _Floats:
    chosen: _Floats = log_factorial[n] - log_factorial[k] - log_factorial[n - k]
    return chosen


@lru_cache(maxsize=8)
def _log_factorials(n: int) -> _Floats:
    table = np.array([math.lgamma(i + 1) for i in range(n + 1)])
    table.flags.writeable = False
    return table


def _ceil_share(fraction: float, count: int) -> int:
    # Exact on the printed decimal: 0.1 of 1,000 is 100 on every machine, whatever the product rounds to.
    return math.ceil(Fraction(str(fraction)) * count)


def _permutation(n: int, words: Iterator[int]) -> tuple[int, ...]:
    order = list(range(n))
    for last in range(n - 1, 0, -1):
        unbiased = _WORD_RANGE - _WORD_RANGE % (last + 1)
        j = next(word for word in words if word < unbiased) % (last + 1)
        order[last], order[j] = order[j], order[last]
    return tuple(order)


def _words(ctx1: bytes) -> Iterator[int]:
    block = 0
    while True:
        stream = digest("graph permutation", ctx1, block)
        for start in range(0, DIGEST_BYTES, 4):
            yield int.from_bytes(stream[start : start + 4], "big")
        block += 1
