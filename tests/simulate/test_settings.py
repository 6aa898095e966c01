from dataclasses import replace

import pytest

from aggregator.errors import ParameterError
from aggregator.simulate.settings import Settings
from aggregator.wire.vocabulary import MASKED_STEPS, Step

GOOD = Settings("pairwise", clients=120, entries=100, bits=16, dropouts=12, rounds=2, seed=3)

REFUSED = [
    ({"mode": "plain"}, "mode 'plain' is not one of those that this runs: lattice, pairwise"),
    ({"dropouts": 13}, "120 clients tolerate at most 12 dropouts in a round, 13 were asked for"),
    ({"dropouts": -1}, "at least 0"),
    ({"clients": 1}, "2 to 10,000 clients"),
    ({"clients": 10_001}, "2 to 10,000 clients"),
    ({"entries": 0}, "at least 1"),
    ({"rounds": 0}, "at least 1"),
    ({"bits": 60}, "value_bits is 60"),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED, ids=str)
def test_what_no_round_could_do_is_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        replace(GOOD, **change)


def test_who_left_before_its_input_had_arrived_is_in_no_sum() -> None:
    for number in (1, 2):
        absences = GOOD.absences(number)
        assert len(absences) == 12
        assert set(absences.values()) == set(MASKED_STEPS)
        late = {client for client, step in absences.items() if step in (Step.CONSISTENCY_CHECK, Step.UNMASKING)}
        assert set(GOOD.survivors(number)) == set(range(120)) - absences.keys() | late
    assert GOOD.absences(1) != GOOD.absences(2)
