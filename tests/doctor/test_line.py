"""What the doctor says of the way to the server: names, proxies, ports."""

import asyncio
from base64 import b64encode

import pytest

from aggregator.doctor.case import resolve
from aggregator.doctor.finding import Level
from aggregator.doctor.line import look_at_way
from aggregator.doctor.proxy import choose_route
from aggregator.errors import ParameterError
from tests.cable import Cable
from tests.doctor.stage import LOOPBACK, case, closed_port, listening, nowhere, silent

BRIEFLY_S = 0.05


async def looked(tmp_path, port, **changes):
    way = await look_at_way(case(tmp_path, port, **changes))
    told = {finding.check: finding for finding in way.findings}
    assert list(told) == ["DNS", "proxy", "TCP"]
    return way.dial, told


async def test_a_direct_line(tmp_path):
    async with listening(silent) as port:
        dial, told = await looked(tmp_path, port, environment={})
        assert {finding.level for finding in told.values()} == {Level.GOOD}
        with dial() as line:
            assert line.getpeername() == (LOOPBACK, port)
    assert told["DNS"].says == "localhost resolves to 127.0.0.1"
    assert "no proxy is set" in told["proxy"].says


async def test_this_machines_own_resolver():
    assert LOOPBACK in await resolve("localhost", 7443)


async def test_a_name_that_does_not_resolve(tmp_path):
    dial, told = await looked(tmp_path, 7443, host="hub.invalid", resolve=nowhere)
    assert dial is None
    assert told["DNS"].level is Level.FAULT
    assert told["DNS"].says == "the name hub.invalid does not resolve: Name or service not known"
    assert told["TCP"].level is Level.SKIPPED
    assert told["TCP"].says == "not tried: first mend DNS"


async def test_a_resolver_that_is_silent(tmp_path):
    async def never(host, port):
        await asyncio.get_running_loop().create_future()

    _, told = await looked(tmp_path, 7443, resolve=never, patience_s=BRIEFLY_S)
    assert "does not resolve: is silent for 0.05 s" in told["DNS"].says


async def test_a_closed_port(tmp_path):
    async with closed_port() as port:
        dial, told = await looked(tmp_path, port)
    assert dial is None
    assert told["TCP"].level is Level.FAULT
    assert told["TCP"].says == f"no answer on port {port}: 127.0.0.1 Connection refused"
    assert f"have the firewall let TCP out to localhost:{port}" in told["TCP"].remedy


async def test_one_address_of_two_answers(tmp_path):
    async def both(host, port):
        return ["127.0.0.2", LOOPBACK]

    async with listening(silent) as port:
        dial, told = await looked(tmp_path, port, resolve=both)
        dial().close()
    assert told["TCP"].level is Level.WARNING
    assert "127.0.0.1 answers" in told["TCP"].says
    assert "127.0.0.2 Connection refused" in told["TCP"].says


async def greet(reader, writer):
    writer.write(b"hello")


async def test_a_proxy_that_opens_a_line(tmp_path):
    async with listening(greet) as port, Cable(port, connect=True) as proxy:
        environment = {"https_proxy": f"http://me:p%40ss@localhost:{proxy.port}"}
        dial, told = await looked(tmp_path, port, host=LOOPBACK, environment=environment, resolve=nowhere)
        with await asyncio.to_thread(dial) as line:
            assert await asyncio.to_thread(line.recv, 5) == b"hello"
    assert told["DNS"].level is Level.WARNING
    assert told["DNS"].remedy == "none is needed: the proxy resolves the name"
    assert told["proxy"].says == f"the proxy localhost:{proxy.port} (from https_proxy) opens a line to 127.0.0.1:{port}"
    assert told["TCP"].level is Level.GOOD
    assert len(proxy.heads) == 2
    assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n")
    assert f"Proxy-Authorization: Basic {b64encode(b'me:p@ss').decode()}\r\n" in proxy.heads[0]


async def test_a_proxy_that_refuses(tmp_path):
    async with Cable(7443, connect=True) as proxy:
        proxy.answer = "403 Forbidden"
        environment = {"grpc_proxy": f"http://me:secret@localhost:{proxy.port}"}
        dial, told = await looked(tmp_path, 7443, environment=environment)
    assert dial is None
    assert told["proxy"].level is Level.FAULT
    who = f"the proxy localhost:{proxy.port} (from grpc_proxy)"
    assert told["proxy"].says == f"{who} refuses CONNECT localhost:7443: it says HTTP/1.1 403 Forbidden"
    assert "no_grpc_proxy=localhost" in told["proxy"].remedy
    assert told["TCP"].level is Level.SKIPPED
    assert "secret" not in repr(told)


@pytest.mark.parametrize("status", ["200OK", "", "\x1b[31m200"])
async def test_a_proxy_that_babbles(tmp_path, status):
    async with Cable(7443, connect=True) as proxy:
        proxy.answer = status
        _, told = await looked(tmp_path, 7443, environment={"http_proxy": f"http://localhost:{proxy.port}"})
    assert told["proxy"].level is Level.FAULT
    assert "refuses CONNECT" in told["proxy"].says
    assert told["proxy"].says.isprintable()


async def test_a_proxy_that_closes_the_line(tmp_path):
    async def hang_up(reader, writer):
        await reader.readuntil(b"\r\n\r\n")

    async with listening(hang_up) as door:
        _, told = await looked(tmp_path, 7443, environment={"http_proxy": f"http://localhost:{door}"})
    assert "refuses CONNECT localhost:7443: it says nothing" in told["proxy"].says


async def test_a_proxy_that_is_not_there(tmp_path):
    async with closed_port() as door:
        _, told = await looked(tmp_path, 7443, environment={"https_proxy": f"http://127.0.0.1:{door}"})
    assert f"the proxy 127.0.0.1:{door} (from https_proxy) cannot be reached: Connection refused" in told["proxy"].says
    assert "correct https_proxy" in told["proxy"].remedy


async def test_a_proxy_that_is_silent(tmp_path):
    async with listening(silent) as door:
        environment = {"https_proxy": f"http://localhost:{door}"}
        _, told = await looked(tmp_path, 7443, environment=environment, patience_s=BRIEFLY_S)
    assert "is silent for 0.05 s" in told["proxy"].says


async def test_a_proxy_in_capitals_is_deaf_to_grpc(tmp_path):
    async with listening(silent) as port:
        dial, told = await looked(tmp_path, port, environment={"HTTPS_PROXY": "http://proxy:3128"})
        dial().close()
    assert told["proxy"].level is Level.WARNING
    assert "HTTPS_PROXY is set, but gRPC reads only lower-case names" in told["proxy"].says


A, B = "http://a:1", "http://b:2"
ROUTES = [
    ({}, "hub", None),
    ({"http_proxy": A}, "hub", "a"),
    ({"https_proxy": B, "http_proxy": A}, "hub", "b"),
    ({"grpc_proxy": A, "https_proxy": B}, "hub", "a"),
    ({"grpc_proxy": "", "https_proxy": B}, "hub", None),
    ({"HTTP_PROXY": A}, "hub", None),
    ({"https_proxy": "https://a:1"}, "hub", None),
    ({"https_proxy": "a:1"}, "hub", None),
    ({"https_proxy": "http://a:port"}, "hub", None),
    ({"https_proxy": A, "no_proxy": "x, hub"}, "hub", None),
    ({"https_proxy": A, "no_proxy": "example.org"}, "Hub.Example.org", None),
    ({"https_proxy": A, "no_proxy": "example.org"}, "hub.example.com", "a"),
    ({"https_proxy": A, "no_proxy": "*"}, "hub", "a"),
    ({"https_proxy": A, "no_proxy": ""}, "hub", "a"),
    ({"https_proxy": A, "no_proxy": "hub", "no_grpc_proxy": "other"}, "hub", "a"),
    ({"https_proxy": A, "no_grpc_proxy": "10.0.0.0/8"}, "10.1.2.3", None),
    ({"https_proxy": A, "no_grpc_proxy": "10.0.0.0/8"}, "11.1.2.3", "a"),
    ({"https_proxy": A, "no_grpc_proxy": "10.0.0.0/8"}, "hub", "a"),
    ({"https_proxy": A, "no_grpc_proxy": "fd00::/8"}, "fd00::1", None),
    ({"https_proxy": A, "NO_PROXY": "hub"}, "hub", "a"),
]


@pytest.mark.parametrize(("environment", "host", "expected"), ROUTES)
def test_the_route_that_grpc_takes(environment, host, expected):
    proxy = choose_route(environment, host).proxy
    assert (proxy and proxy.host) == expected


def test_a_proxy_without_port_is_asked_where_grpc_would():
    assert choose_route({"https_proxy": "http://proxy"}, "hub").proxy.port == 443


def test_a_proxy_that_is_named_outright_comes_first():
    assert choose_route({"grpc_proxy": B}, "hub", A).proxy.host == "a"
    assert choose_route({"no_proxy": "hub"}, "hub", A).proxy is None
    with pytest.raises(ParameterError, match=r"--proxy must be http://host:port"):
        choose_route({}, "hub", "a:1")
