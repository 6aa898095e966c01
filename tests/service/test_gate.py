"""The gate itself: how many calls one certificate may hold, and that it is asked again for every message."""

from contextlib import ExitStack
from datetime import timedelta
from time import monotonic
from types import SimpleNamespace

import pytest

from aggregator.crypto.certificates import Role
from aggregator.errors import NotAdmitted, Overloaded
from aggregator.service.allowance import Allowance
from aggregator.service.rpc import CALLS_PER_CERTIFICATE_MAX, Gate, _decoded
from aggregator.wire.codec import encode
from aggregator.wire.messages import Chunk, UploadHeader, UploadMessage
from aggregator.wire.operator_messages import RoundReference
from tests.loopback import operator


class Clock:
    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


def standing_at_the_gate(revoked=frozenset()):
    who = operator()
    context = SimpleNamespace(auth_context=lambda: {"x509_pem_cert": [who.certificate.pem]})
    clock = Clock(who.certificate.not_before + timedelta(hours=2))
    return who, context, clock, Gate(who.authority, lambda: revoked, clock, Allowance(monotonic))


def test_one_certificate_holds_so_many_calls_and_no_more():
    _, context, _, gate = standing_at_the_gate()
    with ExitStack() as calls:
        for _ in range(CALLS_PER_CERTIFICATE_MAX):
            calls.enter_context(gate.admitted(context, Role.OPERATOR))
        with pytest.raises(Overloaded, match="operator has 32 calls open"):
            calls.enter_context(gate.admitted(context, Role.OPERATOR))
    with gate.admitted(context, Role.OPERATOR):
        assert len(gate._calls) == 1
    assert not gate._calls


async def test_control_messages_are_counted_by_their_bytes_and_chunks_are_not():
    who, context, clock, _ = standing_at_the_gate()
    header = UploadMessage(UploadHeader("lungs", 1, 8, (), bytes(16)))
    said = [encode(header)] * 3 + [encode(UploadMessage(Chunk(0, bytes(100_000))))] * 3 + [encode(header)]
    allowance = Allowance(lambda: 0.0, burst_bytes=3 * len(said[0]))
    gate = Gate(who.authority, frozenset, clock, allowance)

    async def read():
        return said.pop(0)

    context.read = read
    heard = _decoded(gate, context, Role.OPERATOR, UploadMessage)
    for kind in (UploadHeader,) * 3 + (Chunk,) * 3:
        assert type((await anext(heard)).body) is kind
    with pytest.raises(Overloaded, match="operator has sent more than"):
        await anext(heard)


async def test_a_certificate_that_ends_while_its_stream_is_open():
    who, context, clock, gate = standing_at_the_gate()
    sent = [encode(RoundReference("lungs", number)) for number in (1, 2)]

    async def read():
        return sent.pop(0)

    context.read = read
    heard = _decoded(gate, context, Role.OPERATOR, RoundReference)
    assert await anext(heard) == RoundReference("lungs", 1)
    clock.now = who.certificate.not_after + timedelta(seconds=1)
    with pytest.raises(NotAdmitted, match="operator expired on"):
        await anext(heard)
