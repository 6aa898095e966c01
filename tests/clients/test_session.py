import numpy as np
import pytest

from aggregator.errors import OutOfTurn, ParameterError
from aggregator.rounds.phase import Completed
from clients.result import RoundResult
from tests.loopback import hub, offers, parameters, weighted_mean
from tests.memory import Room


@pytest.mark.parametrize("n", [2, 3, 5])
async def test_the_five_steps_in_memory(tmp_path, n):
    room, offered = Room(tmp_path, n), offers(n)
    ends = await room.play(offered)
    assert isinstance(room.end, Completed)
    for result in ends.values():
        assert isinstance(result, RoundResult), result
        assert np.array_equal(result.words, room.end.total)
        assert np.abs(result.mean["x"] - weighted_mean(offered, range(n))).max() <= result.error_bound
    said = [[type(body).__name__ for body in room.transports[c].sent] for c in range(n)]
    assert said == [["Join", "Advert", "Dealing", "SurvivorSignature", "Unmasking"]] * n
