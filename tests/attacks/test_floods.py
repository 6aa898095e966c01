"""Certified callers that flood the server: with headers, connections, garbage, metadata; a round goes on meanwhile."""

import asyncio
from itertools import islice

import grpc
import pytest

from aggregator.errors import Overloaded, SangamError
from aggregator.service import rpc
from aggregator.service.allowance import CALL_BYTES, Allowance
from aggregator.wire.messages import ProbeRequest, ServerInfo, UploadReceipt
from tests.loopback import check_mean, hub, offers, parameters, raw

N = 3
PROBE = "/sangam.v1.Aggregation/Probe"
UPLOAD = "/sangam.v1.Aggregation/Upload"
PARTICIPATE = "/sangam.v1.Aggregation/Participate"
CALLS = 50


@pytest.fixture
def small_burst(monkeypatch):
    """Fifty calls at once, then one in ten seconds."""
    burst = {"rate": CALL_BYTES / 10, "burst_bytes": CALLS * CALL_BYTES}
    monkeypatch.setattr("aggregator.service.app.Allowance", lambda clock: Allowance(clock, **burst))


async def names(channel, method, data, count):
    """How so many calls end, by the errors' names."""
    found = []
    for _ in range(count):
        try:
            async for _ in channel._channel.stream_stream(method)(iter([data])):
                pass
            found.append("")
        except grpc.aio.AioRpcError as error:
            found.append(type(channel.named(error)).__name__)
    return found


@pytest.mark.parametrize(("method", "refused"), [(UPLOAD, "MessageError"), (PARTICIPATE, "MessageError"), (PROBE, "")])
async def test_who_calls_in_a_loop_is_told_to_come_back_and_nobody_else_is(tmp_path, small_burst, method, refused):
    offered = offers(N - 1)
    async with hub(tmp_path, N) as h, raw(h.address, h.consortium.identities[N - 1]) as channel:
        await h.create(parameters())
        data = b"\xff" * 100 if refused else b""
        ends = await names(channel, method, data, CALLS + 20)
        assert set(ends) - {"Disconnected"} == {refused, "Overloaded"}
        assert ends.count("Disconnected") <= 2, "a call that ends while it is written may lose its status"
        assert CALLS - 2 <= ends.index("Overloaded") <= CALLS + 1
        with pytest.raises(Overloaded, match="come back in") as told:
            await channel.unary(PROBE, ProbeRequest(), ServerInfo)
        assert 5 < told.value.retry_after_s <= 30
        check_mean(await h.run_round(offered), offered, range(N - 1), parameters().ring_bits)


async def test_metadata_larger_than_its_bound_is_refused_by_grpc(tmp_path):
    offered = offers(N)
    async with hub(tmp_path, N) as h, raw(h.address, h.consortium.identities[0]) as channel:
        await h.create(parameters())
        for size in (17 << 10, 1 << 20):
            rpc_call = channel._channel.stream_unary(PROBE)(iter([b""]), metadata=(("x", "y" * size),))
            assert await rpc_call.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
        check_mean(await h.run_round(offered), offered, range(N), parameters().ring_bits)


async def test_as_many_calls_as_one_may_hold_and_each_refusal_is_named(tmp_path):
    async with hub(tmp_path, N) as h, raw(h.address, h.consortium.identities[0]) as channel:
        channels = [channel._channel, *(await other_channels(h, 3))]
        calls = [one.stream_unary(UPLOAD)() for one in channels for _ in range(16)]
        ending = asyncio.as_completed([asyncio.ensure_future(call.details()) for call in calls])
        ends = {await end for end in islice(ending, len(calls) - rpc.CALLS_PER_CERTIFICATE_MAX)}
        assert ends == {"site-0000 has 32 calls open"}
        for call in calls:
            call.cancel()
        for one in channels[1:]:
            await one.close()
        with pytest.raises(SangamError, match="the stream ended before"):
            await channel.upward(UPLOAD, [], UploadReceipt)


async def other_channels(h, count):
    who = h.consortium.identities[0]
    secrets = grpc.ssl_channel_credentials(who.authority.pem, who.key_pem, who.certificate.pem)
    separate = (("grpc.use_local_subchannel_pool", 1),)
    return [grpc.aio.secure_channel(h.address, secrets, separate) for _ in range(count)]
