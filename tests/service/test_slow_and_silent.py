"""Callers that connect and say nothing, say half, or do not listen: each step has a time, and honest sites notice none.

The times are made short, and nothing sleeps: what is awaited is the server's end of the call or connection.
"""

import asyncio

import grpc
import pytest

from aggregator.errors import Disconnected, MessageError, NotAdmitted
from aggregator.service import aggregation_service, app, rpc
from aggregator.wire.codec import encode
from aggregator.wire.messages import (
    PROTOCOL_VERSION,
    ClientMessage,
    Join,
    ResultRequest,
    UploadReceipt,
)
from tests.loopback import TOO_LONG_S, check_mean, hub, offers, parameters, raw, until
from tests.uploads import UPLOAD, begun, play

N = 3
SHORT_S = 0.1
PARTICIPATE = "/sangam.v1.Aggregation/Participate"
JOIN = encode(ClientMessage(0, Join(1, PROTOCOL_VERSION, "sepsis")))


def with_options(monkeypatch, **changes):
    """gRPC's options, some of them others."""
    kept = tuple((name, value) for name, value in app.OPTIONS if name not in changes)
    monkeypatch.setattr(app, "OPTIONS", (*kept, *changes.items()))


async def ended(reader):
    """Until the server hangs up; what it sent before."""
    async with asyncio.timeout(TOO_LONG_S):
        return await reader.read()


async def test_a_connection_that_never_shakes_hands_is_closed(tmp_path, monkeypatch):
    assert dict(app.OPTIONS)["grpc.server_handshake_timeout_ms"] == 20_000
    with_options(monkeypatch, **{"grpc.server_handshake_timeout_ms": 300})
    offered = offers(N)
    async with hub(tmp_path, N) as h:
        opened = [await asyncio.open_connection("localhost", h.port) for _ in range(50)]
        await h.create(parameters())
        check_mean(await h.run_round(offered), offered, range(N), parameters().ring_bits)
        for reader, writer in opened:
            assert await ended(reader) == b""
            writer.close()


async def test_a_connection_without_any_call_is_closed_and_the_next_call_connects_anew(tmp_path, monkeypatch):
    assert dict(app.OPTIONS)["grpc.max_connection_idle_ms"] == 600_000
    with_options(monkeypatch, **{"grpc.max_connection_idle_ms": 300})
    async with hub(tmp_path, N) as h, raw(h.address, h.consortium.identities[0]) as channel:
        await channel.connect()
        async with asyncio.timeout(TOO_LONG_S):
            await channel._channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        with pytest.raises(MessageError):
            await channel.upward(UPLOAD, [], UploadReceipt)


async def test_plaintext_gets_nothing(tmp_path):
    async with hub(tmp_path, N) as h, grpc.aio.insecure_channel(h.address) as channel:
        for method in ("/sangam.v1.Aggregation/Probe", "/grpc.health.v1.Health/Check"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(method)(b"")
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_call_that_never_says_its_first_word_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(rpc, "FIRST_S", SHORT_S)
    async with hub(tmp_path, N) as h, raw(h.address, h.consortium.identities[0]) as channel:
        await h.create(parameters())
        silent = channel._channel
        calls = [
            silent.stream_stream(PARTICIPATE)(),
            silent.stream_unary(UPLOAD)(),
            silent.stream_unary("/sangam.v1.Aggregation/Probe")(),
            silent.stream_stream("/sangam.v1.Aggregation/FetchResult")(),
        ]
        for call in calls:
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
            assert await call.details() == "nothing has come for 0.1 s"


async def test_a_stranger_is_refused_before_a_byte_of_its_request_is_read(tmp_path):
    """gRPC reads a unary request before it asks us: 32 of 3.7 MB would lie in memory for each connection."""
    async with hub(tmp_path, N) as h, raw(h.address, h.consortium.identities[0]) as channel:
        call = channel._channel.stream_unary("/sangam.v1.Operator/CreateTask")()
        async with asyncio.timeout(TOO_LONG_S):
            assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(NotAdmitted, match="this call is for operator"), channel.errors():
            await call


async def test_a_control_stream_that_is_half_closed_ends_and_its_site_is_away(tmp_path):
    async with hub(tmp_path, N) as h, raw(h.address, h.consortium.identities[0]) as channel:
        await h.create(parameters())
        lines = h.running.tasks.find("sepsis").lines
        call = channel._channel.stream_stream(PARTICIPATE)()
        await call.write(JOIN)
        await call.read()
        assert lines.is_connected("site-0000")
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
        await until(lambda: not lines.is_connected("site-0000"))


async def test_an_upload_that_stands_still_ends_and_the_next_stream_goes_on_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(aggregation_service, "STALLED_S", SHORT_S)
    told = []

    async def act(inner, parts, spool):
        for chunks in (0, 1):
            stream, first = await begun(inner, parts, chunks)
            told.append(first)
            with pytest.raises(Disconnected, match=r"nothing has come for 0\.1 s"), inner._channel().errors():
                await stream
        stream, first = await begun(inner, parts, 4)
        told.append(first)
        await stream.done_writing()
        await stream
        return UploadReceipt(already_accepted=False)

    await play(tmp_path, monkeypatch, act)
    assert told == ["0", "0", "1"]


async def read_on(call, into):
    while (data := await call.read()) is not grpc.aio.EOF:
        into.append(data)


async def test_a_reader_that_stands_still_is_cut_off_and_may_go_on(tmp_path, monkeypatch):
    """Of 12 MiB gRPC's buffers at both ends take six to eight."""
    stalled, in_time = asyncio.Event(), rpc._in_time

    async def noting(seconds, step, what="nothing has come"):
        try:
            return await in_time(seconds, step, what)
        except Disconnected:
            stalled.set()
            raise

    monkeypatch.setattr(rpc, "STALLED_S", 0.5)
    monkeypatch.setattr(rpc, "_in_time", noting)
    shape = (4_800_000,)
    offered, spec = offers(2, shape), parameters(shape)
    async with hub(tmp_path, 2) as h, raw(h.address, h.consortium.identities[0]) as channel:
        await h.create(spec)
        run = await h.run_round(offered)
        check_mean(run, offered, range(2), spec.ring_bits)
        call = channel._channel.unary_stream("/sangam.v1.Aggregation/FetchResult")(encode(ResultRequest("sepsis", 0)))
        reading = [await call.read()]
        async with asyncio.timeout(TOO_LONG_S):
            await stalled.wait()
        with pytest.raises(Disconnected, match=r"the caller has read nothing for 0\.5 s"), channel.errors():
            await read_on(call, reading)
        assert 1 < len(reading) < spec.result_plan.chunks
        async with h.join(0) as session:
            assert (await session.fetch_result()).words.tolist() == run.operator.words.tolist()
