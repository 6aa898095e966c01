"""The long way: uploads and results over lines that break in their midst go on where they were, byte for byte."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import numpy as np
import pytest

import clients
from aggregator.errors import Disconnected, Equivocation, MessageError
from aggregator.protocol.parameters import Mode
from aggregator.wire.codec import encode
from aggregator.wire.messages import GO_ON_KEY, Chunk, ResultMessage, ResultRequest, UploadMessage, UploadReceipt
from clients.retry import patiently
from tests.cable import Cable
from tests.loopback import PATIENT, hub, offers, operator, parameters, raw
from tests.uploads import LAST, SHAPE, N, begun, held, play

MIB = 1 << 20
WINDOW_BYTES = 2 * MIB  # what was on its way when a line broke; 0.4 to 1.3 MB were measured


@pytest.mark.parametrize(("mode", "entries"), [(Mode.PAIRWISE, 4_000_000), (Mode.LATTICE, 3_000_000)])
async def test_an_upload_cut_three_times_goes_on_where_it_was(tmp_path, mode, entries):
    """From the beginning each time it would take 1.8 times its bytes."""
    offered, spec = offers(N, (entries,)), parameters((entries,), mode=mode)
    size = spec.upload_plan.payload_bytes
    async with hub(tmp_path, N) as h, Cable(h.port) as cable:
        cable.upward_cuts.extend(round(size * part) for part in (0.3, 0.6, 0.9))
        await h.create(spec, PATIENT)
        run = await h.run_round(offered, how={LAST: {"port": cable.port}})
    exact = sum(run.watchers[client].encoded.astype(np.uint64) for client in range(N))
    for result in (run.operator, *run.results.values()):
        assert np.array_equal(result.words, exact % 2**spec.ring_bits)
    assert not cable.upward_cuts
    assert size < cable.upward_bytes < size + 3 * WINDOW_BYTES < 1.8 * size
    assert run.told("answered").count(("site-0002", "masked_input")) == 1


async def test_a_stream_that_is_open_and_silent_ends_by_name_when_a_newer_one_goes_on(tmp_path, monkeypatch):
    ends = []

    async def act(inner, parts, spool):
        older, first = await begun(inner, parts, 2)
        await held(spool, parts[1:3])
        newer, second = await begun(inner, parts, 4)
        ends.extend(await asyncio.gather(older, return_exceptions=True))
        assert (first, second) == ("0", "2")
        await newer.done_writing()
        return await newer

    await play(tmp_path, monkeypatch, act)
    assert ends[0].code() is grpc.StatusCode.UNAVAILABLE
    assert ends[0].details() == "a newer stream takes this upload's place"


async def test_a_stream_that_ends_early_may_be_followed_by_another(tmp_path, monkeypatch):
    """A server cannot always tell one that ended from one that broke."""

    async def act(inner, parts, spool):
        with pytest.raises(MessageError, match="client 2 sent 3 of 4 chunks"):
            await inner.upload(parts[:4])
        await held(spool, parts[1:4])
        stream, first = await begun(inner, parts, 4)
        assert first == "3"
        await stream.done_writing()
        return await stream

    await play(tmp_path, monkeypatch, act)


async def test_all_chunks_may_be_there_and_only_the_end_be_missing(tmp_path, monkeypatch):
    async def act(inner, parts, spool):
        stream, _ = await begun(inner, parts, 4)
        await held(spool, parts[1:])
        stream.cancel()
        return await inner.upload(parts)

    await play(tmp_path, monkeypatch, act)


async def test_what_was_refused_is_destroyed_and_not_gone_on_with(tmp_path, monkeypatch):
    """Also what came before the false chunk."""

    async def act(inner, parts, spool):
        short = UploadMessage(Chunk(2, parts[3].body.data[:-1]))
        for number, (false, named) in enumerate([(short, "chunk 2 has"), (parts[0], "an upload has one header")]):
            lie = [UploadMessage(replace(parts[0].body, upload_id=bytes([number] * 16))), *parts[1:]]
            stream, first = await begun(inner, lie, 2)
            await held(spool, parts[1:3])
            await stream.write(encode(false))
            with pytest.raises(grpc.aio.AioRpcError):
                await stream
            assert first == "0"
            assert not spool.held_bytes
            with pytest.raises(MessageError, match=named):
                await inner.upload(lie)  # the same again is the same lie
        return await inner.upload(parts)

    await play(tmp_path, monkeypatch, act)


async def test_another_upload_of_the_same_client_starts_over(tmp_path, monkeypatch):
    async def act(inner, parts, spool):
        stream, _ = await begun(inner, parts, 2)
        await held(spool, parts[1:3])
        other = [UploadMessage(replace(parts[0].body, upload_id=b"another masking.")), *parts[1:]]
        newer, first = await begun(inner, other, 0)
        assert first == "0"
        assert not spool.held_bytes
        with pytest.raises(grpc.aio.AioRpcError, match="a newer stream takes this upload's place"):
            await stream
        newer.cancel()
        return await inner.upload(parts)

    await play(tmp_path, monkeypatch, act)


@pytest.mark.parametrize("who", ["participant", "operator"])
async def test_a_result_cut_three_times_goes_on_where_it_was(tmp_path, who):
    offered, spec = offers(N, (4_000_000,)), parameters((4_000_000,))
    size = spec.result_plan.payload_bytes
    async with hub(tmp_path, N) as h:
        await h.create(spec, PATIENT)
        run = await h.run_round(offered)
        async with Cable(h.port) as cable:
            cable.downward_cuts.extend(round(size * part) for part in (0.3, 0.6, 0.9))
            if who == "operator":
                async with clients.operate(f"localhost:{cable.port}", operator()) as leader:
                    result = await leader.fetch_result("sepsis")
            else:
                async with h.join(0, port=cable.port) as session:
                    result = await session.fetch_result()
    assert np.array_equal(result.words, run.operator.words)
    assert result.round == run.number
    assert not cable.downward_cuts
    assert size < cable.downward_bytes < size + 3 * WINDOW_BYTES < 1.8 * size


async def test_patience_of_a_download_runs_out(tmp_path):
    offered, spec = offers(N, SHAPE), parameters(SHAPE)
    async with hub(tmp_path, N) as h, Cable(h.port) as cable:
        await h.create(spec, PATIENT)
        await h.run_round(offered)
        cable.refusing = True
        async with clients.operate(f"localhost:{cable.port}", operator(), patience_s=0.2) as leader:
            with pytest.raises(Disconnected, match="cannot be reached"):
                await leader.fetch_result("sepsis")


async def test_a_chunk_beyond_the_result_is_refused(tmp_path):
    offered, spec = offers(N), parameters()
    async with hub(tmp_path, N) as h:
        await h.create(spec)
        await h.run_round(offered)
        fetch = "/sangam.v1.Operator/FetchResult"
        rest = [part async for part in h.calls.downward(fetch, ResultRequest("sepsis", 0, 1), ResultMessage)]
        assert len(rest) == 1, "a header, and no chunk after the last"
        with pytest.raises(MessageError, match="chunk 2 was asked for, the result has 1 chunks"):
            await anext(h.calls.downward(fetch, ResultRequest("sepsis", 0, 2), ResultMessage))


def telling(*metadata):
    """A service whose Upload answers any header with this, and then waits for the end of the stream."""

    async def call(stream, context):
        await anext(stream)
        if metadata:
            await context.send_initial_metadata(metadata)
        count = 0
        async for _ in stream:
            count += 1
        return encode(UploadReceipt(already_accepted=bool(count)))

    methods = {"Upload": grpc.stream_unary_rpc_method_handler(call)}
    return lambda *_: grpc.method_handlers_generic_handler("test.Telling", methods)


@asynccontextmanager
async def told(tmp_path, *metadata):
    async with hub(tmp_path, N, further=[telling(*metadata)]) as h, raw(h.address, h.consortium.identities[0]) as own:
        yield own


CHUNKS = [UploadMessage(Chunk(index, b"x")) for index in range(3)]  # the first stands for the header


@pytest.mark.parametrize(("held", "sends"), [("0", True), ("1", True), ("2", False)])
async def test_what_the_server_holds_is_not_sent_again(tmp_path, held, sends):
    async with told(tmp_path, (GO_ON_KEY, held)) as own:
        assert await own.upward("/test.Telling/Upload", CHUNKS, UploadReceipt) == UploadReceipt(sends)


@pytest.mark.parametrize(
    ("value", "error", "named"),
    [
        ("3", Equivocation, "the server says that it holds 3 chunks, there are 2"),
        ("9999999999", Equivocation, "the server says that it holds 9999999999 chunks, there are 2"),
        ("99999999999", MessageError, "did not say by a number from which chunk to go on"),
        ("-1", MessageError, "did not say by a number"),
        ("1.5", MessageError, "did not say by a number"),
        ("", MessageError, "did not say by a number"),
    ],
)
async def test_a_server_that_asks_for_a_chunk_that_there_is_not(tmp_path, value, error, named):
    async with told(tmp_path, (GO_ON_KEY, value)) as own:
        with pytest.raises(error, match=named):
            await own.upward("/test.Telling/Upload", CHUNKS, UploadReceipt)


async def test_an_upload_that_does_not_move_counts_as_broken_and_is_tried_again(tmp_path):
    """The line is alive, and the server says nothing."""
    attempts = []

    async def send():
        attempts.append(1)
        return await own.upward("/test.Telling/Upload", CHUNKS, UploadReceipt)

    async with told(tmp_path) as own:
        own._stalled_s = 0.05
        with pytest.raises(Disconnected, match=r"nothing has moved for 0\.05 s"):
            await patiently(0.3)(send)
    assert len(attempts) > 1
