import dataclasses

import pytest

from aggregator.errors import Expired, Overloaded, ParameterError
from aggregator.service.start_keys import StartKeys
from aggregator.wire.operator_messages import RoundRequest

NOW = 1_000_000.0
REQUEST = RoundRequest("sepsis", bytes(32), "key-1", NOW + 60)


class Desk:
    """Keys, and a wall clock that the tests move."""

    def __init__(self, **options):
        self.now = NOW
        self.keys = StartKeys(lambda: self.now, **options)
        self.rounds = 0

    def start(self, operator="platform", **changes):
        request = dataclasses.replace(REQUEST, **changes)
        known = self.keys.round_of(operator, request)
        if known is not None:
            return known
        self.rounds += 1
        self.keys.keep(operator, request, self.rounds)
        return self.rounds


def test_the_same_again_gives_the_same_round():
    desk = Desk()
    assert [desk.start() for _ in range(3)] == [1, 1, 1]
    assert desk.start(idempotency_key="key-2") == 2


def test_a_key_is_its_operators_and_its_tasks():
    desk = Desk()
    assert desk.start() == 1
    assert desk.start("another") == 2
    assert desk.start(task="stroke") == 3
    assert desk.start() == 1


def test_the_same_key_with_another_model_is_a_mistake():
    desk = Desk()
    desk.start()
    with pytest.raises(ParameterError, match="key 'key-1' started round 1 of task sepsis on another model"):
        desk.start(model_hash=bytes(31) + b"\1")


@pytest.mark.parametrize("late_s", [0.0, 3_600.0])
def test_a_key_whose_time_is_over_is_refused_even_if_it_is_known(late_s):
    desk = Desk()
    desk.start()
    desk.now = NOW + 60 + late_s
    with pytest.raises(
        Expired, match=rf"key expired {late_s:.0f} seconds ago by this server's clock \(does the caller"
    ):
        desk.start()
    assert desk.rounds == 1


def test_a_key_that_was_used_again_after_its_time_starts_a_new_round():
    desk = Desk()
    desk.start()
    desk.now = NOW + 61
    assert desk.start(key_expires_s=NOW + 99, model_hash=bytes(31) + b"\1") == 2


def test_a_key_is_kept_for_a_day_at_most_and_clocks_may_differ_by_an_hour():
    desk = Desk()
    assert desk.start(key_expires_s=NOW + 86_400 + 3_600) == 1
    with pytest.raises(ParameterError, match="a day at most, this one for 90001 seconds"):
        desk.start(key_expires_s=NOW + 86_400 + 3_601, idempotency_key="key-2")


def test_there_is_room_for_so_many_and_again_when_some_have_expired():
    desk = Desk(keys_max=3)
    for i in range(3):
        desk.start(idempotency_key=f"key-{i}", key_expires_s=NOW + 10 * (i + 1))
    with pytest.raises(Overloaded, match="at most 3 idempotency keys"):
        desk.start(idempotency_key="one more")
    assert desk.start(idempotency_key="key-2", key_expires_s=NOW + 30) == 3, "who is known needs no room"
    desk.now = NOW + 10
    assert desk.start(idempotency_key="one more") == 4
    assert len(desk.keys._starts["platform"]) == 3


def test_the_keys_of_a_task_that_is_gone_are_forgotten():
    desk = Desk()
    desk.start()
    desk.start(task="stroke")
    desk.keys.forget("sepsis")
    assert desk.start() == 3
    assert desk.start(task="stroke") == 2
