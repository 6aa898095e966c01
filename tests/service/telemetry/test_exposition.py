"""Who sees the metrics: operators of the consortium over mutual TLS, or whoever is on this machine."""

import asyncio
import http.client
import socket
import ssl
from contextlib import closing

import pytest

from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import IDENTITY_FILE, KEY_FILE, write_chain
from aggregator.errors import ParameterError, StorageError
from aggregator.files import replace_file
from aggregator.service.telemetry.exposition import LINES_MAX, Mutual, Plain, exposed
from aggregator.service.telemetry.metrics import Metrics
from tests.loopback import aggregator, hub, issued, operator

LOOPBACK = "127.0.0.1:0"


def context(directory, who):
    """A caller's TLS; nobody's certificate for None."""
    made = ssl.create_default_context(cadata=aggregator().authority.pem.decode())
    if who is not None:
        home = directory / f"tls-{who.certificate.serial}"
        if not home.exists():
            who.save(home)
        made.load_cert_chain(home / IDENTITY_FILE, home / KEY_FILE)
    return made


def get(line, path="/metrics", **headers):
    """Status and body of one request."""
    with closing(line):
        line.request("GET", path, headers=headers)
        response = line.getresponse()
        return response.status, response.read().decode()


async def over_tls(port, tls, path="/metrics"):
    return await asyncio.to_thread(get, http.client.HTTPSConnection("localhost", port, context=tls, timeout=5), path)


async def test_an_operator_reads_them_over_mutual_tls_and_nobody_else(tmp_path):
    revoked = tmp_path / "revoked"
    revoked.write_text("")
    async with hub(tmp_path, 2, metrics="localhost:0", revoked=revoked, reload_s=0) as h:
        port = h.running.metrics_port
        status, body = await over_tls(port, context(tmp_path, operator()))
        assert status == 200
        assert "# HELP sangam_rounds_started_total Rounds that were started." in body
        assert "process_resident_memory_bytes" in body
        assert (await over_tls(port, context(tmp_path, operator()), "/else"))[0] == 404

        site = h.consortium.identities[0]
        assert await over_tls(port, context(tmp_path, site)) == (
            403,
            "site-0000 is certified as participant, this call is for operator\n",
        )
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await over_tls(port, context(tmp_path, None))
        with pytest.raises((http.client.BadStatusLine, ConnectionError)):
            await asyncio.to_thread(get, http.client.HTTPConnection("localhost", port, timeout=5))

        revoked.write_text(f"{operator().certificate.serial:#x}\n")
        await h.running.reload()
        assert (await over_tls(port, context(tmp_path, operator())))[0] == 403


async def test_a_renewed_certificate_is_shown_without_a_restart(tmp_path):
    fresh = issued("hub", Role.AGGREGATOR, ("localhost",), days=300)
    async with hub(tmp_path, 2, metrics="localhost:0", reload_s=0) as h:
        tls = context(tmp_path, operator())

        def shown():
            plain = socket.create_connection(("localhost", h.running.metrics_port))
            with tls.wrap_socket(plain, server_hostname="localhost") as line:
                return line.getpeercert(binary_form=True)

        assert await asyncio.to_thread(shown) == aggregator().certificate.der
        replace_file(tmp_path / "hub" / KEY_FILE, fresh.key_pem)
        replace_file(tmp_path / "hub" / IDENTITY_FILE, write_chain(fresh.certificate, fresh.authority))
        await h.running.reload()
        assert await asyncio.to_thread(shown) == fresh.certificate.der


async def test_in_the_clear_on_loopback_only_and_to_no_web_page(tmp_path):
    async with exposed(LOOPBACK, Metrics().registry, Plain()) as port:

        def asked(**headers):
            return get(http.client.HTTPConnection("127.0.0.1", port, timeout=5), **headers)

        assert (await asyncio.to_thread(asked))[0] == 200
        assert (await asyncio.to_thread(asked, Host=f"localhost:{port}"))[0] == 200
        status, body = await asyncio.to_thread(asked, Host="evil.example.org")
        assert (status, body) == (403, "these metrics are for this machine only\n")
        _, body = await asyncio.to_thread(asked, Accept="application/openmetrics-text; version=1.0.0")
        assert body.endswith("# EOF\n")


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "hub.example.org:0"])
async def test_in_the_clear_elsewhere_is_refused(address):
    with pytest.raises(ParameterError, match="is not loopback"):
        async with exposed(address, Metrics().registry, Plain()):
            pass


async def test_a_server_does_not_start_where_it_would_show_them_in_the_clear(tmp_path):
    with pytest.raises(ParameterError, match="is not loopback"):
        async with hub(tmp_path, 2, metrics="0.0.0.0:0", insecure_loopback=True):
            pass


async def test_a_port_in_use_is_named():
    async with exposed(LOOPBACK, Metrics().registry, Plain()) as port:
        with pytest.raises(ParameterError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with exposed(f"127.0.0.1:{port}", Metrics().registry, Plain()):
                pass


def test_a_directory_without_the_identity_is_named(tmp_path):
    with pytest.raises(StorageError, match="is not an identity any more"):
        Mutual(lambda: None, aggregator, tmp_path)


async def test_lines_that_say_nothing_take_no_more_threads_than_there_are():
    async with exposed(LOOPBACK, Metrics().registry, Plain()) as port:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(LINES_MAX)]
        try:
            one_too_many = socket.create_connection(("127.0.0.1", port), timeout=5)
            with closing(one_too_many):
                assert await asyncio.to_thread(one_too_many.recv, 1) == b""
        finally:
            for line in silent:
                line.close()
