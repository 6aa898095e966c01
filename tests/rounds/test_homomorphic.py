"""A homomorphic round with real clients, key holder and auditor, all in memory; every message through the codec."""

import pytest

from aggregator.rounds.phase import Completed
from clients.result import RoundResult
from tests.loopback import offers
from tests.memory import Room
from tests.parties import ANY_AUDIT, FROZEN, ONE_SHOT, TRUST_SERVER, attending, parameters

N = 4


@pytest.mark.parametrize("parties", [FROZEN, ONE_SHOT, TRUST_SERVER], ids=lambda parties: parties.audit)
async def test_a_whole_round(tmp_path, parties):
    room = Room(tmp_path, N, spec=parameters(parties=parties))
    async with attending(room, who=tuple(parties.names)):
        ends = await room.play(offers(N), how={c: {"safeguards": ANY_AUDIT} for c in range(N)})
    assert isinstance(room.end, Completed), room.end
    assert all(isinstance(end, RoundResult) for end in ends.values()), ends
