"""A stream that waits holds nothing of what it carried last: with 1,000 sites that were 20 MB of dealt shares alone."""

import asyncio
import gc

from aggregator.crypto.certificates import Role
from aggregator.service.rpc import both_ways
from aggregator.wire.codec import encode
from aggregator.wire.messages import ClientMessage, Join, ServerMessage, Withdrawal
from aggregator.wire.operator_messages import RoundReference
from aggregator.wire.vocabulary import EventKind
from tests.consortium import TASK
from tests.loopback import hub, parameters, raw, until
from tests.service.test_gate import standing_at_the_gate


class Octets(bytes):
    """Bytes that are counted while they are there."""

    count = 0

    def __init__(self, _: bytes) -> None:
        type(self).count += 1

    def __del__(self) -> None:
        type(self).count -= 1


def alive(*kinds: type) -> int:
    return sum(type(one) in kinds for one in gc.get_objects())


async def test_bytes_go_when_they_are_decoded():
    _, context, _, gate = standing_at_the_gate()
    left, silent = [1, 2], asyncio.Event()

    async def read():
        if left:
            return Octets(encode(RoundReference("lungs", left.pop())))
        silent.set()
        return await asyncio.Event().wait()

    async def listens(_, messages):
        async for message in messages:
            assert message.task == "lungs"
            assert Octets.count == 1
        yield

    context.read = read
    call = both_ways(gate, Role.OPERATOR, RoundReference, listens).stream_stream
    running = asyncio.create_task(call(None, context))
    await silent.wait()
    assert not left
    assert not Octets.count
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_messages_go_when_they_are_told_and_when_they_are_heard(tmp_path):
    async with hub(tmp_path, 2) as h, raw(h.address, h.consortium.identities[0]) as channel:
        await h.create(parameters())
        number = await h.operator.start_round(TASK)
        before = alive(ServerMessage, ClientMessage)
        call = channel.both_ways("/sangam.v1.Aggregation/Participate")
        await call.write(encode(ClientMessage(0, Join(1, 1, TASK))))
        for _ in ("Welcome", "RoundOpened"):
            assert await call.read()
        await call.write(encode(ClientMessage(number, Withdrawal("no consent"))))
        events = h.operator.watch(TASK, number)
        assert EventKind.WITHDREW in [(await anext(events)).kind for _ in range(2)]
        await until(lambda: alive(ServerMessage, ClientMessage) == before)
        call.cancel()
