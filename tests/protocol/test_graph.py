import dataclasses
import itertools
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.crypto.canonical import encode
from aggregator.errors import ParameterError, RoundAborted
from aggregator.protocol.graph import Degree, Graph, ThreatModel, _permutation, build, degree
from tests.reference import graph as twin

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "secagg_graph.json").read_text())["cases"]
DEFAULT = ThreatModel()
CTX1 = bytes(range(32))


def reached(graph: Graph) -> set[int]:
    """The positions that a walk from 0 reaches."""
    seen, rest = {0}, [0]
    while rest:
        new = set(graph.neighbours(rest.pop())) - seen
        seen |= new
        rest.extend(new)
    return seen


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['n']}-{c['gamma']}-{c['model']}-{c.get('sigma', 40)}")
def test_degree_matches_known_answer(case: dict[str, float]) -> None:
    sigma, eta = int(case.get("sigma", 40)), int(case.get("eta", 20))
    threat = ThreatModel(case["gamma"], case["delta"], case["model"] == "malicious", sigma, eta)
    assert degree(int(case["n"]), int(case["n"]), threat) == Degree(int(case["k"]), int(case["t"]), complete=False)


def test_default_threat_model_gives_the_degrees_of_the_design() -> None:
    assert degree(1_000, 1_000, DEFAULT) == Degree(132, 97, complete=False)
    assert degree(10_000, 10_000, DEFAULT) == Degree(176, 129, complete=False)


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(101, 700),
    more=st.integers(0, 100),
    gamma=st.integers(0, 25),
    delta=st.integers(0, 25),
    bad=st.booleans(),
)
def test_degree_agrees_with_exact_integers(n: int, more: int, gamma: int, delta: int, bad: bool) -> None:
    threat = ThreatModel(gamma / 100, delta / 100, bad, 40, 20)
    corrupt = math.ceil(gamma * (n + more) / 100)
    try:
        found = degree(n, n + more, threat)
    except (ParameterError, RoundAborted):
        if corrupt + math.ceil(delta * n / 100) < n:
            with pytest.raises(ValueError, match="no degree"):
                twin.sparse(n, n + more, str(gamma / 100), str(delta / 100), bad, 40, 20)
        return
    assert (found.k, found.t) == twin.sparse(n, n + more, str(gamma / 100), str(delta / 100), bad, 40, 20)
    a = twin.worst_corrupt(n, found.k, corrupt, 40)
    assert not found.complete
    assert a < found.t <= found.k < n
    assert not bad or 2 * found.t > found.k + a, "two disjoint sets of honest neighbours could both reach t"


def test_degree_counts_the_corrupt_on_the_roster() -> None:
    full, shrunk = degree(1_000, 1_000, DEFAULT), degree(1_000, 2_000, DEFAULT)
    assert shrunk.k > full.k
    assert degree(1_000, 1_000, dataclasses.replace(DEFAULT, corrupt_fraction=0.2)).t == shrunk.t


@pytest.mark.parametrize(("n", "gamma", "delta"), [(101, 0.1, 0.2), (157, 0.05, 0.3), (241, 0.1, 0.3)])
def test_neighbours_are_drawn_from_the_others(n: int, gamma: float, delta: float) -> None:
    """Here a draw from all n, the client itself included, would give a smaller k."""
    found = degree(n, n, ThreatModel(gamma, delta, malicious=False, security_bits=40))
    assert (found.k, found.t) == twin.sparse(n, n, str(gamma), str(delta), False, 40, 20)


def test_fractions_are_taken_as_printed() -> None:
    """0.07 · 300 is 21.000000000000004 in binary floating point; 21 of 300 are corrupt, not 22."""
    assert math.ceil(0.07 * 300) == 22
    assert degree(300, 300, ThreatModel(0.07, 0.05)) == Degree(
        *twin.sparse(300, 300, "0.07", "0.05", malicious=True, security_bits=104, eta=20), complete=False
    )
    assert DEFAULT.fewest_survivors(1_000) == 900
    assert DEFAULT.fewest_survivors(1_001) == 901
    assert DEFAULT.fewest_survivors(100) == 0
    assert ThreatModel(0.0, 0.07).fewest_survivors(300) == 279


@pytest.mark.parametrize(("n", "tolerated"), [(2, 0), (3, 0), (4, 1), (5, 1), (6, 1), (10, 3)])
def test_small_rounds_tolerate(n: int, tolerated: int) -> None:
    found = degree(n, n, DEFAULT)
    assert (found.k, found.complete) == (n - 1, True)
    assert n - found.t == tolerated


def test_complete_thresholds_agree_with_the_twin_and_bound_the_corrupt() -> None:
    for roster, n in itertools.product(range(2, 301), range(2, 101)):
        corrupt = (roster - 1) // 3  # the most that is below a third of the roster
        if n > roster:
            continue
        if n <= corrupt:
            with pytest.raises(RoundAborted):
                degree(n, roster, DEFAULT)
            continue
        t = degree(n, roster, DEFAULT).t
        assert t == twin.complete_threshold(n, roster)
        assert 2 * t > n + corrupt, "the corrupt answer twice, the honest once: both sets of survivors could reach t"
        assert n >= twin.fewest(roster)


def test_shrunk_u1_raises_the_threshold() -> None:
    assert degree(10, 10, DEFAULT).t == 7
    assert degree(10, 30, DEFAULT).t == 10


def test_degree_refuses_what_cannot_be_protected() -> None:
    for n, roster in ((1, 1), (0, 5), (-1, 5), (6, 5), (101, 100)):
        with pytest.raises(ParameterError):
            degree(n, roster, DEFAULT)
    with pytest.raises(RoundAborted, match="10 of 31"):
        degree(10, 31, DEFAULT)
    with pytest.raises(RoundAborted, match="1200 of 10000"):
        degree(1_200, 10_000, DEFAULT)
    with pytest.raises(ParameterError):
        degree(101, 101, ThreatModel(0.45, 0.45))


@pytest.mark.parametrize(
    "wrong",
    [
        {"corrupt_fraction": -0.1},
        {"corrupt_fraction": 1.0},
        {"corrupt_fraction": math.nan},
        {"dropout_fraction": -0.1},
        {"dropout_fraction": math.inf},
        {"corrupt_fraction": 0.5, "dropout_fraction": 0.5},
        {"security_bits": 0},
        {"security_bits": 257},
        {"failure_bits": 0},
    ],
)
def test_threat_model_refuses(wrong: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        dataclasses.replace(DEFAULT, **wrong)


def test_threat_model_fields_tell_every_model_apart() -> None:
    models = [
        DEFAULT,
        ThreatModel(corrupt_fraction=0.2),
        ThreatModel(dropout_fraction=0.2),
        ThreatModel(malicious=False),
        ThreatModel(security_bits=40),
        ThreatModel(failure_bits=30),
    ]
    assert len({encode(*model.fields()) for model in models}) == len(models)
    assert encode(*ThreatModel(0, 0).fields()) == encode(*ThreatModel(0.0, 0.0).fields())


@settings(deadline=None, max_examples=25)
@given(n=st.integers(101, 400), half=st.integers(1, 50), ctx1=st.binary(min_size=32, max_size=32))
def test_harary_graph_is_symmetric_regular_connected_and_the_twins(n: int, half: int, ctx1: bytes) -> None:
    graph = build(ctx1, Degree(2 * half, half + 1, complete=False), n)
    for position in range(n):
        around = graph.neighbours(position)
        assert len(around) == graph.k == 2 * half
        assert position not in around
        assert list(around) == sorted(set(around))
        assert all(position in graph.neighbours(other) for other in around)
        assert graph.holders(position) == around
    assert len(reached(graph)) == n
    for position in (0, n // 2, n - 1):
        assert list(graph.neighbours(position)) == twin.neighbours(ctx1, n, 2 * half, position)


def test_every_even_degree_up_to_all_others_is_regular() -> None:
    for k in range(2, 101, 2):
        graph = build(CTX1, Degree(k, k // 2 + 1, complete=False), 101)
        assert all(len(graph.neighbours(position)) == k for position in range(101))
    assert graph.neighbours(7) == tuple(other for other in range(101) if other != 7)


def test_ctx1_decides_the_graph_and_nothing_else_does() -> None:
    size = degree(300, 300, DEFAULT)
    graph = build(CTX1, size, 300)
    build.cache_clear()
    assert build(CTX1, size, 300) == graph
    other = build(CTX1[:-1] + b"\x00", size, 300)
    assert sum(graph.neighbours(p) != other.neighbours(p) for p in range(300)) > 290
    # The permutation is a real one: places do not follow the order of the list.
    assert graph.neighbours(0) != tuple(sorted((p % 300) for p in range(-size.k // 2, size.k // 2 + 1) if p))


def test_permutation_skips_words_that_would_bias_it() -> None:
    biased = [2**32 - 1]  # 2**32 = 1 mod 3 and mod 5: the last word belongs to no full range of 3 or 5
    plain = [7, 2, 9, 4]
    assert _permutation(5, iter(biased + plain[:2] + biased + plain[2:])) == _permutation(5, iter(plain))
    assert _permutation(5, iter(plain)) == (1, 3, 0, 4, 2)  # by hand


def test_permutation_is_unbiased_enough() -> None:
    """Where position 0 of 101 lands over 2,000 contexts: chi-square of 100 degrees, mean 100, std about 14."""
    landed = [0] * 101
    size = Degree(2, 2, complete=False)
    for i in range(2_000):
        landed[build(i.to_bytes(32, "big"), size, 101)._place[0]] += 1
    assert sum((count - 2_000 / 101) ** 2 for count in landed) * 101 / 2_000 < 200


@given(n=st.integers(2, 100))
def test_complete_graph_holds_its_own_share(n: int) -> None:
    graph = build(CTX1, degree(n, n, DEFAULT), n)
    for position in range(n):
        assert graph.neighbours(position) == tuple(p for p in range(n) if p != position)
        assert graph.holders(position) == tuple(range(n))
    assert (graph.n, graph.k, graph.complete) == (n, n - 1, True)
    assert graph.threshold == degree(n, n, DEFAULT).t


def test_build_and_graph_refuse() -> None:
    size = degree(300, 300, DEFAULT)
    for ctx1, wrong, n in (
        (CTX1[:-1], size, 300),
        (CTX1, Degree(75, 54, complete=False), 300),
        (CTX1, Degree(0, 0, complete=False), 300),
        (CTX1, Degree(300, 200, complete=False), 300),
        (CTX1, Degree(76, 77, complete=False), 300),
        (CTX1, Degree(10, 7, complete=True), 10),
        (CTX1, Degree(9, 11, complete=True), 10),
        (CTX1, Degree(9, 0, complete=True), 10),
    ):
        with pytest.raises(ParameterError):
            build(ctx1, wrong, n)
    for n in (10, 300):
        graph = build(CTX1, degree(n, n, DEFAULT), n)
        for position in (-1, n):
            with pytest.raises(ParameterError):
                graph.neighbours(position)
            with pytest.raises(ParameterError):
                graph.holders(position)
