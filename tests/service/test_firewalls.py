"""What lies between a site and its server: proxies, firewalls that cut silent lines; and that nothing is compressed."""

import asyncio
import gzip

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

import clients
from aggregator.errors import Disconnected, ParameterError
from aggregator.wire.codec import encode
from aggregator.wire.messages import GO_ON_KEY, Chunk, ResultMessage, ResultRequest, UploadMessage, UploadReceipt
from aggregator.wire.operator_messages import RoundReference
from tests.cable import Cable
from tests.consortium import Consortium
from tests.loopback import PATIENT, aggregator, check_mean, hub, offers, operator, parameters, raw

N = 3
MIB = 1 << 20
IDLE_S = 2.5
BRISK_S = 1.0
FETCH = "/sangam.v1.Operator/FetchResult"


@pytest.fixture(autouse=True)
def no_exceptions_to_proxies(monkeypatch):
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


def proxied(cable):
    return f"http://127.0.0.1:{cable.port}"  # localhost has two addresses, and this cable one


async def test_a_whole_round_runs_through_a_proxy(tmp_path):
    offered, spec = offers(N, (500_000,)), parameters((500_000,))
    async with hub(tmp_path, N) as h, Cable(h.port, connect=True) as cable:
        await h.create(spec, PATIENT)
        run = await h.run_round(offered, how={client: {"proxy": proxied(cable)} for client in range(N)})
        check_mean(run, offered, range(N), spec.ring_bits)
        async with clients.operate(h.address, operator(), proxy=proxied(cable)) as leader:
            assert (await leader.fetch_result("sepsis")).round == run.number
    assert cable.asked == [f"localhost:{h.port}"] * (N + 1)
    assert cable.upward_bytes > N * spec.upload_plan.payload_bytes


async def test_a_proxy_from_the_environment(tmp_path, monkeypatch):
    async with hub(tmp_path, N) as h, Cable(h.port, connect=True) as cable:
        await h.create(parameters())
        monkeypatch.setenv("https_proxy", proxied(cable))
        async with h.join(0) as session:
            assert session.task == "sepsis"
    assert cable.asked == [f"localhost:{h.port}"]


async def test_a_proxy_that_refuses_is_named(tmp_path):
    async with hub(tmp_path, N) as h, Cable(h.port, connect=True) as cable:
        await h.create(parameters())
        cable.refusing = True
        named = rf"localhost:{h.port} cannot be reached through the proxy 127.0.0.1:{cable.port}, .*403"
        with pytest.raises(Disconnected, match=named) as caught:
            async with h.join(0, proxy=f"http://user:secret@127.0.0.1:{cable.port}", patience_s=0.2):
                pass
        assert "secret" not in str(caught.value)
        async with clients.operate(h.address, operator(), proxy=proxied(cable)) as leader:
            with pytest.raises(Disconnected, match=named):
                await leader.start_round("sepsis")


@pytest.mark.parametrize("proxy", ["proxy:3128", "https://proxy:3128", "http://proxy", "http://:3128", "http://p:x"])
async def test_a_proxy_that_is_none(tmp_path, proxy):
    who = Consortium.of(N).identities[0]
    with pytest.raises(ParameterError, match="the proxy must be given as http://host:port"):
        async with clients.connect("hub:7443", who, journal=tmp_path / "journal", proxy=proxy):
            pass
    with pytest.raises(ParameterError, match="the proxy must be given as http://host:port"):
        async with clients.operate("hub:7443", operator(), proxy=proxy):
            pass


@pytest.mark.parametrize("keepalive_s", [0.0, -1.0, 0.5, float("nan")])
async def test_a_keepalive_that_is_too_short(tmp_path, keepalive_s):
    with pytest.raises(ParameterError, match=r"keepalive_s is .*, at least 1 s are allowed"):
        async with clients.operate("hub:7443", operator(), keepalive_s=keepalive_s):
            pass


async def test_a_waiting_session_keeps_its_line_open_or_comes_back(tmp_path):
    """One line has pings, and stays; the other has none in time, is cut, and comes back. A round has both."""
    offered, spec = offers(2), parameters()
    async with (
        hub(tmp_path, 2, keepalive_s=60.0) as h,
        Cable(h.port, idle_s=IDLE_S) as pinged,
        Cable(h.port, idle_s=IDLE_S) as silent,
    ):
        await h.create(spec, PATIENT)
        async with (
            h.join(0, port=pinged.port, keepalive_s=BRISK_S) as session,
            h.join(1, port=silent.port, keepalive_s=60.0) as other,
        ):
            await silent.idled.wait()
            taking = [
                asyncio.create_task(each.contribute(update, weight=weight))
                for each, (update, weight) in zip((session, other), offered.values(), strict=True)
            ]
            await h.operator.start_round("sepsis")
            results = await asyncio.gather(*taking)
        assert not pinged.idled.is_set()
    assert [result.participants for result in results] == [("site-0000", "site-0001")] * 2


async def test_the_servers_pings_keep_a_line_open(tmp_path):
    async with hub(tmp_path, N, keepalive_s=BRISK_S) as h:
        await h.create(parameters())
        async with Cable(h.port, idle_s=IDLE_S) as pinged, h.join(0, port=pinged.port, keepalive_s=60.0):
            silent = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(2 * IDLE_S, silent.set_result, None)
            await silent
            assert not pinged.idled.is_set()


def gzipped(who, address):
    """A channel that compresses what it sends, and asks for the same."""
    credentials = grpc.ssl_channel_credentials(who.authority.pem, who.key_pem, who.certificate.pem)
    return grpc.aio.secure_channel(address, credentials, compression=grpc.Compression.Gzip)


async def test_a_compressed_message_is_refused_and_not_inflated(tmp_path):
    """Of 64 MiB of zeros, of which 64 KiB travel: were they inflated, they would be refused as too large."""
    bomb = bytes(64 << 20)
    assert len(gzip.compress(bomb, 1)) < 1 << 19
    async with hub(tmp_path, N) as h:
        await h.create(parameters())
        async with gzipped(operator(), h.address) as channel:
            for data in (encode(RoundReference("sepsis", 1)), bomb):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary("/sangam.v1.Operator/AbortRound")(data)
                assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
                assert "ompression algorithm 'gzip' is disabled" in caught.value.details()
        async with gzipped(h.consortium.identities[0], h.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError, match="is disabled"):
                await channel.stream_unary("/sangam.v1.Aggregation/Upload")(iter([bomb]))


ZEROS = bytes(MIB)
TIMES = 8


def zeros():
    """A service that takes and gives mebibytes of zeros."""

    async def up(stream, context):
        await context.send_initial_metadata(((GO_ON_KEY, "0"),))
        return encode(UploadReceipt(already_accepted=sum([1 async for _ in stream]) == TIMES))

    async def down(data, context):
        for index in range(TIMES):
            yield encode(ResultMessage(Chunk(index, ZEROS)))

    methods = {
        "Up": grpc.stream_unary_rpc_method_handler(up),
        "Down": grpc.unary_stream_rpc_method_handler(down),
    }
    return grpc.method_handlers_generic_handler("test.Zeros", methods)


async def test_nothing_is_sent_compressed(tmp_path):
    async with (
        hub(tmp_path, N, further=[lambda *_: zeros()]) as h,
        Cable(h.port) as cable,
        raw(f"localhost:{cable.port}", operator()) as channel,
    ):
        chunks = [UploadMessage(Chunk(index, ZEROS)) for index in range(TIMES)]
        assert (await channel.upward("/test.Zeros/Up", chunks, UploadReceipt)).already_accepted
        assert TIMES * MIB < cable.upward_bytes < (TIMES + 1) * MIB
        down = channel.downward("/test.Zeros/Down", ResultRequest("sepsis", 1), ResultMessage)
        assert len([part async for part in down]) == TIMES
        assert TIMES * MIB < cable.downward_bytes < (TIMES + 1) * MIB


async def test_a_server_that_compresses_is_refused_and_nothing_is_inflated():
    """It has the aggregator's identity, and no other of our server's settings."""
    who = aggregator()
    server = grpc.aio.server(compression=grpc.Compression.Gzip)
    server.add_generic_rpc_handlers((zeros(),))
    files = [(who.key_pem, who.certificate.pem)]
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials(files, who.authority.pem, True))
    await server.start()
    try:
        async with Cable(port) as cable, raw(f"localhost:{cable.port}", operator()) as channel:
            down = channel.downward("/test.Zeros/Down", ResultRequest("sepsis", 1), ResultMessage)
            with pytest.raises(Disconnected, match="ompression algorithm 'gzip' is disabled"):
                await anext(down)
            assert cable.downward_bytes < MIB, "it was compressed"
    finally:
        await server.stop(None)


async def test_a_proxy_that_leads_to_another_server_is_found_out(tmp_path):
    """It has a certificate of the very consortium, for another host; nothing but TLS's greeting has left."""
    async with (
        hub(tmp_path, N) as h,
        Cable(h.port, connect=True) as cable,
        clients.operate("hub.example:7443", operator(), proxy=proxied(cable)) as leader,
    ):
        with pytest.raises(Disconnected, match="Hostname Verification Check failed"):
            await leader.start_round("sepsis")
    assert cable.asked[0] == "hub.example:7443"


async def test_no_proxy_counts_also_where_a_proxy_is_given(tmp_path, monkeypatch):
    """As docs/round.md says: it is gRPC's rule."""
    monkeypatch.setenv("no_proxy", "localhost")
    async with hub(tmp_path, N) as h, Cable(h.port, connect=True) as cable:
        await h.create(parameters())
        async with h.join(0, proxy=proxied(cable)):
            pass
    assert not cable.asked


async def test_health_and_reflection_inflate_nothing(tmp_path):
    async with hub(tmp_path, N) as h, gzipped(operator(), h.address) as channel:
        reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        asked = ServerReflectionRequest(host="x" * MIB, list_services="").SerializeToString()
        stream = channel.stream_stream(reflection)(iter([asked]))
        named = HealthCheckRequest(service="x" * MIB).SerializeToString()  # inflated, it would be NOT_FOUND
        health = channel.unary_unary("/grpc.health.v1.Health/Check")(named)
        for call in (stream, health):  # gRPC's own refusal; sometimes a reset of the stream overtakes its sentence
            code, said = await call.code(), await call.details()
            disabled = code is grpc.StatusCode.UNIMPLEMENTED and "'gzip' is disabled" in said
            assert disabled or code is grpc.StatusCode.INTERNAL, (code, said)
