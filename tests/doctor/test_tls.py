"""What the doctor says of the handshake: each fault is really shown by a server on loopback."""

import asyncio
import ipaddress
from datetime import timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import Identity, dump_key
from aggregator.doctor.finding import Level
from aggregator.doctor.line import look_at_way
from aggregator.doctor.tls import look_at_tls
from tests.consortium import Consortium
from tests.doctor.stage import LOOPBACK, case, certified, foreign, listening, now, showing, shown, silent, site
from tests.loopback import aggregator, issued

BRIEFLY_S = 0.1


async def looked(tmp_path, port, **changes):
    """The finding about a server that listens there."""
    directory = tmp_path / "site"
    if not directory.exists():
        site(tmp_path)
    asked = case(directory, port, **changes)
    way = await look_at_way(asked)
    return await asyncio.to_thread(look_at_tls, asked, Identity.load(directory), way.dial)


async def settings(reader, writer):
    """What an HTTP/2 server says first: an empty SETTINGS frame."""
    writer.write(bytes(3) + b"\x04" + bytes(5))
    await reader.read()


async def seen(tmp_path, who, *protocols, serve=settings, **changes):
    """The finding about a server that shows this identity's certificate."""
    async with listening(serve, showing(tmp_path, who, *protocols)) as port:
        return port, await looked(tmp_path, port, **changes)


async def test_a_server_in_order(tmp_path):
    port, finding = await seen(tmp_path, aggregator())
    assert finding.level is Level.GOOD
    assert finding.says == f"localhost:{port} proves that it is localhost, and accepts this site, by TLSv1.3"


@pytest.mark.parametrize("deployment", ["demo", "elsewhere"])
async def test_a_server_of_another_consortium(tmp_path, deployment):
    port, finding = await seen(tmp_path, certified(foreign(deployment)))
    assert finding.level is Level.FAULT
    assert finding.says == (
        f"the certificate that localhost:{port} shows is that of {deployment}-aggregator in {deployment}, "
        f"of another authority than this site's, of demo"
    )


async def test_an_expired_certificate(tmp_path):
    _, finding = await seen(tmp_path, issued("hub", Role.AGGREGATOR, ("localhost",), days=1, starts=-3))
    assert finding.level is Level.FAULT
    assert f"expired on {now() - timedelta(days=2):%Y-%m-%d}" in finding.says
    assert f"unless this machine's clock ({now():%Y-%m-%d}" in finding.remedy


async def test_a_certificate_of_tomorrow(tmp_path):
    _, finding = await seen(tmp_path, issued("hub", Role.AGGREGATOR, ("localhost",), starts=2))
    assert "shows is not valid before" in finding.says
    assert "clock" in finding.remedy


async def test_a_certificate_for_other_names(tmp_path):
    port, finding = await seen(tmp_path, issued("hub", Role.AGGREGATOR, ("hub.example.org", "10.0.0.5")))
    says = f"the certificate that localhost:{port} shows is for hub.example.org, 10.0.0.5, not for localhost"
    assert finding.says == says


async def test_an_address_instead_of_the_name(tmp_path):
    port, finding = await seen(tmp_path, aggregator(), host=LOOPBACK)
    assert finding.says == f"the certificate that 127.0.0.1:{port} shows is for localhost, not for 127.0.0.1"


async def test_an_address_that_is_in_the_certificate(tmp_path):
    _, finding = await seen(tmp_path, issued("hub", Role.AGGREGATOR, (LOOPBACK,)), host=LOOPBACK)
    assert finding.level is Level.GOOD


async def test_a_participant_that_poses_as_the_server(tmp_path):
    _, finding = await seen(tmp_path, Consortium.of(3).identities[1])
    assert "may not serve: it is CN=site-0001,OU=participant,O=demo" in finding.says


def intercepted(tmp_path):
    """What a firewall that inspects TLS shows: a certificate for the right name, of an authority of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Hospital Inspection CA")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now() - timedelta(days=1)).not_valid_after(now() + timedelta(days=1))
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(LOOPBACK))]
    signed = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(key, SHA256())
    (tmp_path / "forged.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    (tmp_path / "forged-key.pem").write_bytes(dump_key(key))
    return shown(tmp_path / "forged.pem", tmp_path / "forged-key.pem")


async def test_a_firewall_that_intercepts_is_named(tmp_path):
    async with listening(settings, intercepted(tmp_path)) as port:
        finding = await looked(tmp_path, port)
    assert finding.level is Level.FAULT
    assert "was issued by CN=Hospital Inspection CA, not by the authority of demo" in finding.says
    assert "without inspection" in finding.remedy


async def test_tls_without_http2(tmp_path):
    port, finding = await seen(tmp_path, aggregator(), "http/1.1")
    assert finding.says == f"localhost:{port} speaks TLS, but not HTTP/2"


async def test_a_server_that_hangs_up_after_the_handshake(tmp_path):
    async def hang_up(reader, writer):
        await reader.read(1)

    port, finding = await seen(tmp_path, aggregator(), serve=hang_up)
    assert finding.says.startswith(f"localhost:{port} refuses this site's certificate: ")


async def test_a_server_that_trusts_another_authority(tmp_path):
    """gRPC itself refuses; the site sees only a line that ends."""
    who, stranger = aggregator(), foreign().certificate
    credentials = grpc.ssl_server_credentials([(who.key_pem, who.certificate.pem)], stranger.pem, True)
    server = grpc.aio.server()
    port = server.add_secure_port(f"{LOOPBACK}:0", credentials)
    await server.start()
    finding = await looked(tmp_path, port)
    await server.stop(0)
    assert finding.level is Level.FAULT
    assert f"localhost:{port} refuses this site's certificate" in finding.says
    assert "trusts the authority that certified this site" in finding.remedy


async def test_something_that_speaks_no_tls(tmp_path):
    async def web(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with listening(web) as port:
        finding = await looked(tmp_path, port)
    assert finding.says.startswith(f"localhost:{port} speaks no TLS that fits: ")


async def test_a_firewall_that_swallows_the_handshake(tmp_path):
    async with listening(silent) as port:
        finding = await looked(tmp_path, port, patience_s=BRIEFLY_S)
    assert finding.says == f"localhost:{port} is silent during the handshake"


async def test_a_firewall_that_cuts_the_handshake(tmp_path):
    async def cut(reader, writer):
        await reader.read(1)

    async with listening(cut) as port:
        finding = await looked(tmp_path, port)
    assert finding.says == f"localhost:{port} breaks the line during the handshake"
