"""A result as it streams in: whole, of the right round, and no more than that many clients can add up to."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from aggregator.errors import Equivocation, MessageError, RoundAborted
from aggregator.wire.messages import Chunk, ResultHeader, ResultMessage
from clients.result import collect
from tests.loopback import offers, parameters, weighted_mean
from tests.memory import Room, result_messages

SHAPE = (500_000,)  # two chunks


@pytest.fixture
async def room(tmp_path):
    room = Room(tmp_path, 2, spec=parameters(SHAPE, clients_max=20))
    await room.play(offers(2, SHAPE))
    return room


async def stream(parts):
    for part in parts:
        yield part


async def collected(parts, ctx0=None):
    return await collect(stream(parts), ctx0)


async def test_a_whole_result(room):
    parts = list(result_messages(room.end))
    assert len(parts) == 3
    result = await collected(parts, room.end.setting.terms.ctx0)
    assert np.array_equal(result.words, room.end.total)
    assert (result.task, result.round, result.participants) == ("sepsis", 1, ("site-0000", "site-0001"))
    assert np.abs(result.mean["x"] - weighted_mean(offers(2, SHAPE), range(2))).max() <= result.error_bound
    assert "mean" not in repr(result)
    assert "words" not in repr(result)


async def test_results_that_are_not_whole(room):
    header, first, last = result_messages(room.end)
    spilled = replace(last.body, data=bytes([*last.body.data[:-1], last.body.data[-1] | 0xE0]))
    cases = [
        ([], "a result starts with its header"),
        ([first], "a result starts with its header"),
        ([header], "the result ended after 0 of 2 chunks"),
        ([header, first], "the result ended after 1 of 2 chunks"),
        ([header, last], "chunk 1 arrived, expected chunk 0"),
        ([header, first, first], "chunk 0 arrived, expected chunk 1"),
        ([header, first, last, ResultMessage(Chunk(2, b"x"))], "chunk 2 is surplus"),
        ([header, header], "a result has one header, then chunks"),
        ([header, first, ResultMessage(Chunk(1, last.body.data[:-1]))], "chunk 1 has"),
        ([header, first, ResultMessage(spilled)], "bits beyond its last word"),
    ]
    for parts, named in cases:
        with pytest.raises(MessageError, match=named):
            await collected(parts)


async def test_headers_that_lie(room):
    header, *chunks = result_messages(room.end)
    body = header.body
    assert isinstance(body, ResultHeader)
    crowd = tuple(f"site-{i:04}" for i in range(21))
    other = replace(body.terms, server_nonce=bytes(32))
    cases = [
        (replace(body, payload_bytes=body.payload_bytes + 1), MessageError, "announces"),
        (replace(body, participants=crowd), MessageError, "names 21 participants"),
        (replace(body, participants=body.participants[:1]), RoundAborted, "out of range"),
        (replace(body, terms=other), Equivocation, "not of the round that this client took part in"),
    ]
    for forged, error, named in cases:
        with pytest.raises(error, match=named):
            await collected([ResultMessage(forged), *chunks], room.end.setting.terms.ctx0)


async def test_a_header_that_promises_gigabytes_allocates_nothing(room):
    header = next(iter(result_messages(room.end)))
    huge = parameters((10**9 - 10,), clients_max=20)
    terms = replace(header.body.terms, parameters=huge.to_message())
    promise = replace(header.body, terms=terms, payload_bytes=huge.result_plan.payload_bytes)
    tracemalloc.start()
    with pytest.raises(MessageError, match="the result ended after 0 of"):
        await collected([ResultMessage(promise)])
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 20
