"""The plain sum that secure rounds are measured against: the same road, and as little of a half upload in it."""

import asyncio

import numpy as np
import pytest

from aggregator.bench import plain
from aggregator.bench.plain import PlainService
from aggregator.errors import MessageError, NotAdmitted, OutOfTurn
from aggregator.service.app import serve
from aggregator.wire.chunks import ChunkPlan
from aggregator.wire.messages import ResultMessage, ResultRequest, UploadHeader, UploadMessage, UploadReceipt
from aggregator.wire.operator_messages import RoundEvent, RoundReference
from aggregator.wire.vocabulary import EventKind
from clients.retry import patiently
from tests.consortium import Consortium
from tests.loopback import TOO_LONG_S, configured, operator, raw

ENTRIES = 40
PLAN = ChunkPlan(4 * ENTRIES, 64)
UPDATES = [np.arange(ENTRIES, dtype=np.float32) * i for i in range(1, 5)]


def parts(update, number=1, chunks=PLAN.chunks):
    cut = [UploadMessage(chunk) for chunk in PLAN.cut(update.data)]
    return [UploadMessage(UploadHeader("bench", number, PLAN.payload_bytes, (), bytes(16))), *cut[:chunks]]


class Leaves(Exception):
    """In the middle of an upload."""


def then_leaves(messages):
    yield from messages
    raise Leaves


async def upload(channel, messages):
    return await channel.upward(plain.UPLOAD, messages, UploadReceipt)


async def test_only_whole_uploads_are_summed(tmp_path):
    consortium, service = Consortium.of(4), PlainService(PLAN, 2)
    async with (
        asyncio.timeout(TOO_LONG_S),
        serve(configured(tmp_path, consortium), [service.mount]) as running,
        raw(address := f"localhost:{running.port}", operator()) as leader,
        raw(address, consortium.identities[0]) as first,
        raw(address, consortium.identities[1]) as second,
    ):
        with pytest.raises(OutOfTurn, match="round 1 is not open"):
            await upload(first, parts(UPDATES[0]))
        events = leader.downward(plain.WATCH, RoundReference("bench", 1), RoundEvent)
        assert (await anext(events)).kind == EventKind.STEP
        with pytest.raises(MessageError, match="sent 2 of 3 chunks"):
            await upload(first, parts(UPDATES[0], chunks=2))
        with pytest.raises(Leaves):
            await upload(first, then_leaves(parts(UPDATES[0], chunks=2)))
        swapped = [parts(UPDATES[0])[i] for i in (0, 1, 3, 2)]
        with pytest.raises(MessageError, match="chunk 2 arrived, expected chunk 1"):
            await patiently(TOO_LONG_S)(upload, first, swapped)  # a write to a call that ends may hide how it ended
        with pytest.raises(NotAdmitted):
            await anext(first.downward(plain.WATCH, RoundReference("bench", 2), RoundEvent))
        await upload(first, parts(UPDATES[2]))
        await upload(second, parts(UPDATES[3]))
        last = await anext(events)
        assert (last.kind, last.clients) == (EventKind.CLOSED, 2)
        assert set(service.round.meter.seconds) == {"plain receive", "plain add"}
        result = leader.downward(plain.FETCH, ResultRequest("bench", 1), ResultMessage)
        total = b"".join([bytes(part.body.data) async for part in result])
        assert np.array_equal(np.frombuffer(total, "<f4"), UPDATES[2] + UPDATES[3])
        assert service.round is None


async def streamed(total, chunks=PLAN.chunks):
    for chunk in list(PLAN.cut(total.data))[:chunks]:
        yield ResultMessage(chunk)


async def test_a_sum_is_checked_value_by_value():
    total = sum(UPDATES[:3])
    assert await plain.is_sum(streamed(total), total, PLAN)
    for place in (0, 20, ENTRIES - 1):
        wrong = total.copy()
        wrong[place] += 2.0**-15
        assert not await plain.is_sum(streamed(wrong), total, PLAN)
    assert not await plain.is_sum(streamed(total, chunks=2), total, PLAN)
    assert not await plain.is_sum(streamed(total + UPDATES[3]), total, PLAN)
