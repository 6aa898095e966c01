"""What one certificate may say: a rate, and what may come at once; the clock is the test's."""

import pytest

from aggregator.errors import Overloaded
from aggregator.service import allowance as allowances
from aggregator.service.allowance import BURST_BYTES, CALL_BYTES, RATE, Allowance
from aggregator.service.rpc import CALLS_PER_CERTIFICATE_MAX
from aggregator.wire.codec import bytes_max
from aggregator.wire.messages import Advert, Envelope, RevealedShare, SurvivorSignature
from tests.consortium import Consortium

SITES = [who.certificate for who in Consortium.of(3).identities]
NEIGHBOURS, ROUND_S = 132, 44


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_an_honest_site_of_large_rounds_stays_far_below():
    """The arithmetic of the module, from the bounds of the messages."""
    said = (
        bytes_max(Advert) + NEIGHBOURS * (bytes_max(Envelope) + bytes_max(RevealedShare)) + bytes_max(SurvivorSignature)
    )
    a_round = said + 4 * CALL_BYTES
    tasks = CALLS_PER_CERTIFICATE_MAX // 2
    assert tasks * a_round * 8 < BURST_BYTES
    assert tasks * a_round / ROUND_S * 8 < RATE


def test_a_burst_then_a_rate():
    clock = Clock()
    allowance = Allowance(clock, rate=10, burst_bytes=100)
    for _ in range(10):
        allowance.charge(SITES[0], 10)
    with pytest.raises(Overloaded, match="site-0000 has sent more than 100 bytes of messages") as told:
        allowance.charge(SITES[0], 10)
    assert told.value.retry_after_s == allowances.RETRY_MOST_S, "a call takes 410 s of so low a rate"
    allowance.charge(SITES[1], 10)  # each for itself
    clock.now += 5
    for _ in range(5):
        allowance.charge(SITES[0], 10)
    with pytest.raises(Overloaded):
        allowance.charge(SITES[0], 10)


def test_one_message_may_overdraw_and_is_paid_for():
    clock = Clock()
    allowance = Allowance(clock, rate=10, burst_bytes=100)
    allowance.charge(SITES[0], 1_000)
    clock.now += 90
    with pytest.raises(Overloaded):
        allowance.charge(SITES[0], 1)
    clock.now += 1
    allowance.charge(SITES[0], 1)


def test_a_refusal_costs_nothing_and_says_when_there_is_something_again():
    clock = Clock()
    allowance = Allowance(clock)
    allowance.charge(SITES[0], BURST_BYTES)
    for _ in range(1_000):
        with pytest.raises(Overloaded) as told:
            allowance.charge(SITES[0], CALL_BYTES)
    clock.now += told.value.retry_after_s
    allowance.charge(SITES[0], CALL_BYTES)


def test_who_has_everything_again_is_forgotten(monkeypatch):
    monkeypatch.setattr(allowances, "REMEMBERED", 2)
    clock = Clock()
    allowance = Allowance(clock, rate=10, burst_bytes=100)
    allowance.charge(SITES[0], 100)
    clock.now += 1
    allowance.charge(SITES[1], 5)
    clock.now += 1
    allowance.charge(SITES[2], 5)
    assert set(allowance._spent) == {SITES[0].fingerprint, SITES[2].fingerprint}
