import asyncio
import os
import stat
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator import files
from aggregator.crypto import authority as authorities
from aggregator.crypto import certificates, signing
from aggregator.crypto import identity as identities
from aggregator.crypto.authority import Authority
from aggregator.crypto.certificates import Certificate, Role
from aggregator.crypto.identity import Identity
from aggregator.crypto.request import SigningRequest, hosts_of
from aggregator.errors import NotAdmitted, ParameterError, SangamError, StorageError

NOW = datetime.now(UTC).replace(microsecond=0)  # gRPC checks validity against the real clock
YEAR = timedelta(days=365)
AUTHORITY = authorities.create_authority("demo", NOW, 10 * YEAR)
IMPOSTOR = authorities.create_authority("demo", NOW, 10 * YEAR)  # the same names, another key
SITE_ROLES = [role for role in Role if role is not Role.AUTHORITY]


def enrol(name="aiims-delhi", role=Role.PARTICIPANT, authority=AUTHORITY, now=NOW, valid_for=YEAR, hosts=()):
    key_pem, csr_pem = authorities.request(name, role, authority.certificate.deployment, hosts)
    certificate = authorities.issue(authority, csr_pem, now, valid_for=valid_for, role=role)
    return Identity(certificate, key_pem, authority.certificate)


SITE = enrol()
HUB = enrol("hub", Role.AGGREGATOR, hosts=("localhost", "127.0.0.1"))


def test_a_certificate_says_who_it_is():
    certificate = SITE.certificate
    assert (certificate.name, certificate.role, certificate.deployment) == ("aiims-delhi", Role.PARTICIPANT, "demo")
    assert (certificate.not_before, certificate.not_after) == (NOW - certificates.CLOCK_SKEW, NOW + YEAR)
    parsed = x509.load_der_x509_certificate(certificate.der)
    assert certificate.serial == parsed.serial_number > 0
    assert certificate.fingerprint == parsed.fingerprint(SHA256())
    assert certificate.verifying_key.public_numbers() == SITE.signing_key.public_key().public_numbers()
    assert Certificate.from_pem(certificate.pem) == Certificate.from_der(certificate.der) == certificate


def test_serials_differ():
    assert len({enrol().certificate.serial for _ in range(5)}) == 5


@pytest.mark.parametrize("role", SITE_ROLES)
def test_only_the_aggregator_may_serve(role):
    hosts = ("hub.example.org", "10.0.0.5", "::1") if role is Role.AGGREGATOR else ()
    parsed = x509.load_der_x509_certificate(enrol("name", role, hosts=hosts).certificate.der)
    constraints = parsed.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    usage = parsed.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    purposes = set(parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    server = {ExtendedKeyUsageOID.SERVER_AUTH} if role is Role.AGGREGATOR else set()
    assert purposes == {ExtendedKeyUsageOID.CLIENT_AUTH} | server
    if role is Role.AGGREGATOR:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["hub.example.org"]
        assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.5", "::1"]
    else:
        with pytest.raises(x509.ExtensionNotFound):
            parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_hosts_said_by_the_authority_replace_the_requested_ones():
    _, csr_pem = authorities.request("hub", Role.AGGREGATOR, "demo", ["bank.example.org"])
    hosts = ["hub.example.org"]
    certificate = authorities.issue(AUTHORITY, csr_pem, NOW, valid_for=YEAR, role=Role.AGGREGATOR, hosts=hosts)
    names = x509.load_der_x509_certificate(certificate.der).extensions
    assert names.get_extension_for_class(x509.SubjectAlternativeName).value == x509.SubjectAlternativeName(
        [x509.DNSName("hub.example.org")]
    )


@pytest.mark.parametrize("name", ["", "Delhi", "-x", ".x", "a b", "a/b", "a" * 64, "ä", "x\n", "../x"])
def test_names_that_are_unsafe_in_files_are_refused(name):
    with pytest.raises(ParameterError):
        authorities.request(name, Role.PARTICIPANT, "demo")
    with pytest.raises(ParameterError):
        authorities.request("site", Role.PARTICIPANT, name)
    with pytest.raises(ParameterError):
        authorities.create_authority(name, NOW, YEAR)


@pytest.mark.parametrize("host", ["", "a b", "-a.org", "a..b", "*.org", "x" * 254, "http://x"])
def test_malformed_hosts_are_refused(host):
    with pytest.raises(ParameterError, match="neither a DNS name nor"):
        authorities.request("hub", Role.AGGREGATOR, "demo", [host])


@pytest.mark.parametrize(("role", "hosts"), [(Role.AGGREGATOR, ()), (Role.PARTICIPANT, ("x",)), (Role.AUTHORITY, ())])
def test_hosts_belong_to_the_aggregator_and_authority_to_nobody(role, hosts):
    with pytest.raises(ParameterError):
        authorities.request("name", role, "demo", hosts)


def test_a_role_that_the_authority_did_not_allow_is_refused():
    _, csr_pem = authorities.request("aiims-delhi", Role.OPERATOR, "demo")
    with pytest.raises(ParameterError, match="asks for the role operator, this call allows only participant"):
        authorities.issue(AUTHORITY, csr_pem, NOW, valid_for=YEAR)


def test_a_request_for_another_deployment_is_refused():
    _, csr_pem = authorities.request("aiims-delhi", Role.PARTICIPANT, "other")
    with pytest.raises(ParameterError, match="for other, not for demo"):
        authorities.issue(AUTHORITY, csr_pem, NOW, valid_for=YEAR)


def make_csr(key, names=("demo", "participant", "site")):
    oids = (NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME)
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in zip(oids, names, strict=False)])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm)
    return csr.public_bytes(serialization.Encoding.PEM)


def test_requests_outside_the_profile_are_refused():
    key = ec.generate_private_key(ec.SECP256R1())
    bad = [
        b"",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        make_csr(ec.generate_private_key(ec.SECP384R1())),
        make_csr(ed25519.Ed25519PrivateKey.generate()),
        make_csr(key, ("demo", "participant")),
        make_csr(key, ("demo", "admin", "site")),
        make_csr(key, ("demo", "participant", "Site of ours")),
    ]
    for csr_pem in bad:
        with pytest.raises(ParameterError, match="not a signing request"):
            authorities.issue(AUTHORITY, csr_pem, NOW, valid_for=YEAR)


def test_a_request_not_signed_by_its_own_key_is_refused():
    der = bytearray(x509.load_pem_x509_csr(make_csr(SITE.signing_key)).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    pem = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(ParameterError, match="not signed by the key in it"):
        authorities.issue(AUTHORITY, pem, NOW, valid_for=YEAR)


def test_a_certificate_does_not_outlive_its_authority():
    with pytest.raises(ParameterError, match="the authority itself ends on"):
        enrol(valid_for=11 * YEAR)
    with pytest.raises(NotAdmitted, match="expired on"):
        enrol(now=NOW + 11 * YEAR)


def test_times_need_a_zone_and_validity_a_length():
    with pytest.raises(ParameterError, match="time zone"):
        enrol(now=NOW.replace(tzinfo=None))
    with pytest.raises(ParameterError, match="time zone"):
        SITE.certificate.check_valid_at(NOW.replace(tzinfo=None))
    with pytest.raises(ParameterError, match="valid for some time"):
        enrol(valid_for=timedelta(0))


def test_validity_is_named_with_its_date():
    certificate = SITE.certificate
    certificate.check_valid_at(certificate.not_before)
    certificate.check_valid_at(certificate.not_after)
    with pytest.raises(NotAdmitted, match=f"aiims-delhi expired on {certificate.not_after:%Y-%m-%d %H:%M} UTC"):
        certificate.check_valid_at(certificate.not_after + timedelta(seconds=1))
    with pytest.raises(NotAdmitted, match=f"not valid before {certificate.not_before:%Y-%m-%d %H:%M} UTC"):
        certificate.check_valid_at(certificate.not_before - timedelta(seconds=1))


def test_issued_by_tells_authorities_of_one_name_apart():
    assert SITE.certificate.issued_by(AUTHORITY.certificate)
    assert AUTHORITY.certificate.issued_by(AUTHORITY.certificate)
    assert not SITE.certificate.issued_by(IMPOSTOR.certificate)
    assert not SITE.certificate.issued_by(SITE.certificate)
    assert not SITE.certificate.issued_by(HUB.certificate)


def test_a_leaf_cannot_issue():
    key = SITE.signing_key
    subject = x509.load_der_x509_certificate(SITE.certificate.der).subject
    other = ec.generate_private_key(ec.SECP256R1())
    mallory = certificates.write_subject("mallory", Role.PARTICIPANT, "demo")
    builder = authorities._builder(mallory, other.public_key(), NOW, YEAR)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    mallory = authorities._sign(builder, subject, key)
    assert not mallory.issued_by(SITE.certificate)
    assert not mallory.issued_by(AUTHORITY.certificate)


@pytest.mark.parametrize(
    ("role", "authority", "purposes"),
    [
        (Role.PARTICIPANT, True, [ExtendedKeyUsageOID.CLIENT_AUTH]),
        (Role.AUTHORITY, False, [ExtendedKeyUsageOID.CLIENT_AUTH]),
        (Role.PARTICIPANT, False, [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
        (Role.PARTICIPANT, False, [ExtendedKeyUsageOID.SERVER_AUTH]),
        (Role.PARTICIPANT, False, None),
    ],
)
def test_certificates_outside_the_profile_are_refused(role, authority, purposes):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = certificates.write_subject("mallory", role, "demo")
    builder = authorities._builder(subject, key.public_key(), NOW, YEAR)
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    with pytest.raises(NotAdmitted):
        authorities._sign(builder, subject, key)


@pytest.mark.filterwarnings("ignore:Attribute's length")  # of an attribute that our profile refuses in the next line
@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_certificates_change_no_fact_and_raise_only_our_error(data):
    der = bytearray(SITE.certificate.der)
    position = data.draw(st.integers(0, len(der) - 1))
    der[position] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.sampled_from([len(der), position]))
    try:
        certificate = Certificate.from_der(bytes(der[:cut]))
    except NotAdmitted:
        return
    if certificate.issued_by(AUTHORITY.certificate):  # the wrapping of the signature may change, what it signs may not
        signed, original = (x509.load_der_x509_certificate(c.der) for c in (certificate, SITE.certificate))
        assert signed.tbs_certificate_bytes == original.tbs_certificate_bytes


def test_not_a_certificate_and_too_long_a_one_are_refused():
    for der in (b"", b"\x30", SITE.certificate.der + b"\0", bytes(9000)):
        with pytest.raises(NotAdmitted):
            Certificate.from_der(der)
    with pytest.raises(NotAdmitted, match="PEM"):
        Certificate.from_pem(b"hello")


def test_an_identity_checks_itself():
    with pytest.raises(NotAdmitted, match="does not belong to the certificate of aiims-delhi"):
        Identity(SITE.certificate, HUB.key_pem, AUTHORITY.certificate)
    with pytest.raises(NotAdmitted, match="not issued by this authority"):
        Identity(SITE.certificate, SITE.key_pem, IMPOSTOR.certificate)
    with pytest.raises(NotAdmitted, match="cannot be read"):
        Identity(SITE.certificate, b"hello", AUTHORITY.certificate)
    with pytest.raises(NotAdmitted, match="not an authority"):
        Authority(SITE.certificate, SITE.key_pem)
    SITE.check(Role.PARTICIPANT, NOW)
    with pytest.raises(NotAdmitted, match="certified as participant, not as auditor"):
        SITE.check(Role.AUDITOR, NOW)
    with pytest.raises(NotAdmitted, match="aiims-delhi expired on"):
        SITE.check(Role.PARTICIPANT, NOW + 2 * YEAR)


def test_an_expired_authority_is_named():
    short = authorities.create_authority("demo", NOW, YEAR)
    site = enrol(authority=short, valid_for=YEAR)
    with pytest.raises(NotAdmitted, match="expired on"):
        site.check(Role.PARTICIPANT, NOW + YEAR + timedelta(seconds=1))


def test_an_identity_signs_what_its_certificate_verifies():
    signature = signing.sign(SITE.signing_key, "advert", b"x")
    assert signing.verify(SITE.certificate.verifying_key, signature, "advert", b"x")


def test_save_and_load(tmp_path):
    site, consortium = tmp_path / "site", tmp_path / "consortium"
    SITE.save(site)
    private = {authorities.AUTHORITY_KEY_FILE: AUTHORITY.key_pem}
    files.write_new(consortium, private, {"authority.pem": AUTHORITY.certificate.pem})
    assert Identity.load(site) == SITE
    assert Identity.load(site).key_pem == SITE.key_pem
    assert Authority.load(consortium) == AUTHORITY
    assert sorted(os.listdir(site)) == ["identity.pem", "key.pem"]
    assert b"PRIVATE" not in (site / "identity.pem").read_bytes()
    assert stat.S_IMODE((site / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((consortium / "authority-key.pem").stat().st_mode) == 0o600


def test_the_key_file_is_private_from_its_first_byte(tmp_path, monkeypatch):
    opened = {}
    real = os.open

    def spy(path, flags, mode=0o777):
        opened[os.path.basename(path)] = (flags, mode)
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", spy)
    SITE.save(tmp_path)
    assert opened["key.pem"] == (os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


@pytest.mark.parametrize("taken", ["key.pem", "identity.pem"])
def test_save_never_overwrites(tmp_path, taken):
    (tmp_path / taken).write_bytes(b"precious")
    with pytest.raises(ParameterError, match="never overwritten"):
        SITE.save(tmp_path)
    assert os.listdir(tmp_path) == [taken]
    assert (tmp_path / taken).read_bytes() == b"precious"


@pytest.mark.parametrize("missing", ["key.pem", "identity.pem"])
def test_a_missing_file_is_named(tmp_path, missing):
    SITE.save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(StorageError, match=f"cannot read .*{missing}: No such file"):
        Identity.load(tmp_path)


CHAIN = identities.write_chain(SITE.certificate, SITE.authority)
CSR = authorities.request("x", Role.PARTICIPANT, "demo")[1]


def test_a_chain_reads_back_with_text_around_it():
    assert identities.read_chain(b"aiims-delhi, by mail:\r\n" + CHAIN.replace(b"\n", b"\r\n")) == (
        SITE.certificate,
        SITE.authority,
    )


@pytest.mark.parametrize(
    ("pem", "what"),
    [
        (b"", "no PEM file of ours"),
        (SITE.certificate.pem, "a file of 1 certificates"),
        (CHAIN + CHAIN, "a file of 4 certificates"),
        (CSR, "a signing request, which goes to the consortium"),
        (SITE.key_pem, "a private key, which never leaves its owner"),
        (CHAIN + SITE.key_pem, "a private key, which never leaves its owner"),
    ],
)
def test_another_file_than_an_identity_is_named(pem, what):
    with pytest.raises(NotAdmitted, match=f"two certificates, the site's and the authority's; this is {what}"):
        identities.read_chain(pem)


def test_half_an_identity_is_refused_at_every_length():
    for length in range(0, len(CHAIN) - 1, 7):
        with pytest.raises(NotAdmitted):
            identities.read_chain(CHAIN[:length])


def test_a_renewal_asks_for_the_same_once_more():
    for old in (SITE, HUB):
        asked = SigningRequest.from_pem(authorities.renew(old))
        assert (asked.name, asked.role, asked.deployment) == (old.certificate.name, old.certificate.role, "demo")
        assert asked.hosts == hosts_of(old.certificate)
        assert asked.verifying_key == old.certificate.verifying_key
    assert hosts_of(HUB.certificate) == ("localhost", "127.0.0.1")


@pytest.mark.parametrize("pem", [CHAIN, SITE.certificate.pem])
def test_an_identity_is_no_request(pem):
    with pytest.raises(ParameterError, match=r"not a signing request but a file of . certificates: .*install"):
        SigningRequest.from_pem(pem)


def test_a_directory_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        SITE.save(tmp_path / "file" / "site")


def test_secrets_are_in_no_repr_and_no_error():
    for holder in (SITE, AUTHORITY):
        secret = holder.key_pem.decode().splitlines()[1]
        for text in (repr(holder), str(holder)):
            assert secret not in text
            assert "PRIVATE" not in text
    with pytest.raises(SangamError) as refused:
        Identity(SITE.certificate, HUB.key_pem, AUTHORITY.certificate)
    assert HUB.key_pem.decode().splitlines()[1] not in repr(refused.value)


class Echo(grpc.GenericRpcHandler):
    """Answers every call with the caller's certificate, as our parser reads it."""

    def service(self, handler_call_details):
        async def answer(request, context):
            return Certificate.from_pem(context.auth_context()["x509_pem_cert"][0]).fingerprint

        return grpc.unary_unary_rpc_method_handler(answer)


async def call_over_mutual_tls(client: Identity, server: Identity, trusted: Certificate) -> bytes:
    """One call of `client` to a server that shows `server`'s certificate and trusts `trusted`."""
    grpc_server = grpc.aio.server()
    grpc_server.add_generic_rpc_handlers((Echo(),))
    pairs = [(server.key_pem, server.certificate.pem)]
    port = grpc_server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials(pairs, trusted.pem, require_client_auth=True)
    )
    await grpc_server.start()
    credentials = grpc.ssl_channel_credentials(client.authority.pem, client.key_pem, client.certificate.pem)
    try:
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
            return await channel.unary_unary("/echo/Echo")(b"", timeout=10)
    finally:
        await grpc_server.stop(None)


async def test_mutual_tls_tells_the_server_who_calls():
    async with asyncio.timeout(30):
        assert await call_over_mutual_tls(SITE, HUB, AUTHORITY.certificate) == SITE.certificate.fingerprint


@pytest.mark.parametrize("role", [Role.PARTICIPANT, Role.OPERATOR, Role.KEY_HOLDER, Role.AUDITOR])
async def test_mutual_tls_accepts_every_role(role):
    client = enrol("client", role)
    assert await call_over_mutual_tls(client, HUB, AUTHORITY.certificate) == client.certificate.fingerprint


async def refused_over_mutual_tls(client: Identity, server: Identity) -> bool:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call_over_mutual_tls(client, server, AUTHORITY.certificate)
    return refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_mutual_tls_refuses_a_client_of_another_authority():
    stranger = enrol(authority=IMPOSTOR)
    smuggled = object.__new__(Identity)  # trusts our authority, shows the other's certificate
    for name, value in (
        ("certificate", stranger.certificate),
        ("key_pem", stranger.key_pem),
        ("authority", AUTHORITY.certificate),
    ):
        object.__setattr__(smuggled, name, value)
    assert await refused_over_mutual_tls(smuggled, HUB)


async def test_mutual_tls_refuses_a_server_of_another_authority():
    assert await refused_over_mutual_tls(SITE, enrol("hub", Role.AGGREGATOR, IMPOSTOR, hosts=("localhost",)))


async def test_a_participant_cannot_pose_as_the_server():
    assert await refused_over_mutual_tls(SITE, enrol("mallory"))


async def test_an_expired_client_is_refused_and_named_before_dialling():
    expired = enrol(now=NOW - timedelta(minutes=30), valid_for=timedelta(minutes=10))
    with pytest.raises(NotAdmitted, match="aiims-delhi expired on"):
        expired.check(Role.PARTICIPANT, NOW)
    assert await refused_over_mutual_tls(expired, HUB)


def test_no_request_makes_a_second_authority():
    csr_pem = make_csr(ec.generate_private_key(ec.SECP256R1()), ("demo", "authority", "authority"))
    with pytest.raises(ParameterError, match="nobody can ask for the role authority"):
        authorities.issue(AUTHORITY, csr_pem, NOW, valid_for=YEAR, role=Role.AUTHORITY)
