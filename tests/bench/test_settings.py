from dataclasses import replace

import pytest

from aggregator.bench.settings import MODES, Kind, Settings
from aggregator.errors import ParameterError
from aggregator.protocol.parameters import Mode
from clients.operator import default_deadlines

GOOD = Settings("pairwise", clients=8, entries=1000, bits=16, dropouts=2, repeats=3, client_processes=2)


def test_every_mode_of_the_protocol_can_be_asked_for_and_plain() -> None:
    assert set(MODES) == {*Mode, "plain"} - {"auto"}
    for mode in set(MODES) - {"plain"}:
        assert replace(GOOD, mode=mode).parameters().mode == mode


REFUSED = [
    ({"mode": "ckks"}, "mode 'ckks' is not one of those that this runs: homomorphic, lattice, pairwise, plain"),
    ({"mode": "auto"}, "mode 'auto' is not one of those"),
    ({"mode": "homomorphic", "dropouts": 4}, "8 clients tolerate at most 3 dropouts in a round, .* are no cohort"),
    ({"dropouts": 3}, "8 clients tolerate at most 2 dropouts in a round, 3 were asked for"),
    ({"dropouts": -1}, "at least 0"),
    ({"clients": 10_001}, "2 to 10,000 clients"),
    ({"clients": 1}, "2 to 10,000 clients"),
    ({"clients": 1_000, "dropouts": 101}, "1000 clients tolerate at most 100 dropouts"),
    ({"entries": 0}, "at least 1"),
    ({"repeats": 0}, "at least 1"),
    ({"client_processes": 0}, "at least 1"),
    ({"mode": "plain", "durable": True}, "a plain sum is never written down"),
    ({"bits": 60}, "value_bits is 60, allowed are 2 to 54"),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED, ids=str)
def test_what_no_round_could_do_is_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        replace(GOOD, **change)


def test_deadlines_are_those_that_an_operator_gets_but_nobody_is_waited_for() -> None:
    usual = default_deadlines(GOOD.parameters())
    assert GOOD.deadlines == replace(usual, reconnect_s=0.0)
    assert usual.reconnect_s > 0


def test_both_kinds_take_turns_in_being_first() -> None:
    plain, secure = Kind.PLAIN, Kind.SECURE
    assert GOOD.rounds == (plain, secure, secure, plain, plain, secure)
    assert replace(GOOD, mode="plain", repeats=2).rounds == (plain, plain)
    durable = Kind.DURABLE
    assert replace(GOOD, durable=True, repeats=2).rounds == (plain, secure, durable, durable, secure, plain)


def test_the_last_clients_vanish() -> None:
    assert [GOOD.vanishes(client) for client in range(8)] == [False] * 6 + [True] * 2
    assert GOOD.survivors == 6
