"""A result as it streams in: whole, of the right round, and no more than that many clients can add up to."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from aggregator.errors import Disconnected, Equivocation, MessageError, RoundAborted, StorageError
from aggregator.local.machine import resident_bytes
from aggregator.wire.messages import Chunk, ResultHeader, ResultMessage, ResultRequest, Tensor
from clients.download import Download
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
    return await collect(lambda request: stream(parts), Download("sepsis", 0, ctx0))


class Breaking:
    """A line that breaks at the end of each of these streams but the last; `asked` holds what was asked for."""

    def __init__(self, *streams):
        self._streams = list(streams)
        self.asked = []

    async def fetch(self, request):
        self.asked.append(request)
        for part in self._streams.pop(0):
            yield part
        if self._streams:
            raise Disconnected("the line broke")


async def test_a_result_goes_on_where_its_line_broke(room):
    header, first, last = result_messages(room.end)
    line = Breaking([], [header], [header, first], [header, last])
    result = await collect(line.fetch, Download("sepsis", 0), patience_s=20)
    assert np.array_equal(result.words, room.end.total)
    assert line.asked == [ResultRequest("sepsis", *asked) for asked in ((0, 0), (0, 0), (1, 0), (1, 1))], (
        "the last round is that of the first header, whatever closes meanwhile"
    )


async def test_a_result_that_goes_on_as_another_one_is_refused(room):
    header, first, last = result_messages(room.end)
    body = header.body
    assert isinstance(body, ResultHeader)
    fewer = ResultMessage(replace(body, participants=body.participants[:1]))
    other = ResultMessage(replace(body, terms=replace(body.terms, server_nonce=bytes(32))))
    for forged in (fewer, other):
        with pytest.raises(Equivocation, match="the result of round 1 goes on under another header"):
            await collect(Breaking([header, first], [forged, last]).fetch, Download("sepsis", 0), patience_s=20)
    with pytest.raises(MessageError, match="chunk 0 arrived, expected chunk 1"):
        await collect(Breaking([header, first], [header, first, last]).fetch, Download("sepsis", 0), patience_s=20)


async def test_a_result_arrives_in_the_memory_of_its_words(tmp_path):
    """And of one chunk, a mebibyte here, which is a third of them; the words are kept, and are part of the result."""
    room = Room(tmp_path, 2, spec=parameters((3_000_000,), clients_max=20))
    await room.play(offers(2, (3_000_000,)))
    download = Download("sepsis", 1)

    async def parts():
        for part in result_messages(room.end):
            yield part

    tracemalloc.start()
    await download.take(parts())
    held_bytes, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    words_bytes = download.whole()[2].nbytes
    assert words_bytes <= held_bytes < words_bytes + (1 << 20)
    assert peak_bytes < words_bytes + (4 << 20)


async def test_a_whole_result(room):
    parts = list(result_messages(room.end))
    assert len(parts) == 3
    result = await collected(parts, room.end.setting.terms.ctx0)
    assert np.array_equal(result.words, room.end.total)
    assert (result.task, result.round, result.participants) == ("sepsis", 1, ("site-0000", "site-0001"))
    assert np.abs(result.mean["x"] - weighted_mean(offers(2, SHAPE), range(2))).max() <= result.error_bound
    assert "mean" not in repr(result)
    assert "words" not in repr(result)


async def test_each_tensor_has_its_own_error_bound(tmp_path):
    spec = parameters(tensors=(Tensor("small", (50,), clip=1e-3), Tensor("large", (2, 5))))
    rng = np.random.default_rng(3)
    offered = {
        client: ({"small": rng.uniform(-1e-3, 1e-3, 50), "large": rng.uniform(-4, 4, (2, 5))}, 80 + client)
        for client in range(3)
    }
    for result in (await Room(tmp_path, 3, spec=spec).play(offered)).values():
        for name, mean in result.mean.items():
            error = np.abs(mean - weighted_mean(offered, range(3), name)).max()
            assert 0 < error <= result.error_bounds[name]
        assert result.error_bounds["small"] == pytest.approx(1e-3 / 32767 * 3 * 100 / (80 + 81 + 82))
        assert result.error_bound == result.error_bounds["large"] == pytest.approx(4000 * result.error_bounds["small"])


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


async def test_a_header_that_promises_gigabytes_takes_none(room):
    header = next(iter(result_messages(room.end)))
    huge = parameters((10**9 - 10,), clients_max=20)
    terms = replace(header.body.terms, parameters=huge.to_message())
    promise = replace(header.body, terms=terms, payload_bytes=huge.result_plan.payload_bytes)
    before_bytes = resident_bytes()
    download = Download("sepsis", 1)
    with pytest.raises(MessageError, match="the result ended after 0 of"):
        await download.take(stream([ResultMessage(promise)]))
    assert download.whole()[2].nbytes > 3 * 10**9
    assert resident_bytes() - before_bytes < 16 << 20


async def test_a_result_that_this_machine_cannot_hold(room):
    async def fetch(request):
        raise MemoryError
        yield

    with pytest.raises(StorageError, match="this machine has no memory for so long a result"):
        await collect(fetch, Download("sepsis", 1), patience_s=20)
