import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.crypto import authority as authorities
from aggregator.crypto import certificates, merkle, roster, signing
from aggregator.crypto.certificates import Certificate, Role
from aggregator.crypto.roster import Roster
from aggregator.errors import MessageError, NotAdmitted, ParameterError, SangamError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
AUTHORITY = authorities.create_authority("demo", NOW, 10 * YEAR)
IMPOSTOR = authorities.create_authority("demo", NOW, 10 * YEAR)


def enrol(name: str, authority=AUTHORITY, role=Role.PARTICIPANT, valid_for=YEAR) -> Certificate:
    deployment = authority.certificate.deployment
    csr_pem = authorities.request(name, role, deployment)[1]
    return authorities.issue(authority, csr_pem, NOW, valid_for=valid_for, role=role)


SITES = [enrol(name) for name in ("pgi", "aiims-delhi", "cmc", "nimhans", "tata")]
ROSTER = roster.sign_roster(AUTHORITY, SITES, 7)
CONTENT = json.loads(ROSTER.to_bytes())


def changed(**fields) -> bytes:
    return json.dumps(CONTENT | fields).encode()


def test_the_order_is_by_name_and_gives_the_client_ids():
    names = ["aiims-delhi", "cmc", "nimhans", "pgi", "tata"]
    assert [ROSTER.name(i) for i in range(len(ROSTER))] == names
    for certificate in SITES:
        client = ROSTER.index_of(certificate.fingerprint)
        assert names[client] == certificate.name
        assert ROSTER.verifying_key(client) == certificate.verifying_key
    assert roster.sign_roster(AUTHORITY, reversed(SITES), 7) == ROSTER


def test_the_root_is_rfc6962_over_the_certificates():
    assert ROSTER.root == merkle.root([c.der for c in sorted(SITES, key=lambda c: c.name)])
    assert roster.sign_roster(AUTHORITY, SITES[:4], 7).root != ROSTER.root


def test_the_empty_roster_is_signed_as_well():
    empty = roster.sign_roster(AUTHORITY, (), 0)
    assert empty.root == hashlib.sha256(b"").digest()
    roster.from_bytes(empty.to_bytes()).verify(AUTHORITY.certificate, NOW)


def test_unknown_clients_are_refused():
    with pytest.raises(NotAdmitted, match="not in roster version 7"):
        ROSTER.index_of(enrol("cmc").fingerprint)
    for client in (-1, 5):
        for ask in (ROSTER.name, ROSTER.verifying_key):
            with pytest.raises(NotAdmitted, match=f"client {client} is not in roster version 7 of 5"):
                ask(client)


def test_bytes_read_back():
    read = roster.from_bytes(ROSTER.to_bytes())
    assert read == ROSTER
    assert read.root == ROSTER.root
    read.verify(AUTHORITY.certificate, NOW)


def test_another_authority_or_deployment_does_not_verify():
    with pytest.raises(NotAdmitted, match="not signed by this authority"):
        ROSTER.verify(IMPOSTOR.certificate, NOW)
    with pytest.raises(NotAdmitted, match="of demo, the authority is of other"):
        ROSTER.verify(authorities.create_authority("other", NOW, YEAR).certificate, NOW)
    with pytest.raises(NotAdmitted, match="expired"):
        ROSTER.verify(AUTHORITY.certificate, NOW + 11 * YEAR)


def test_the_signature_covers_version_and_certificates():
    forged = [
        Roster("demo", 8, ROSTER.certificates, ROSTER.signature),
        Roster("demo", 7, ROSTER.certificates[1:], ROSTER.signature),
        Roster("demo", 7, ROSTER.certificates, bytes(64)),
    ]
    for one in forged:
        with pytest.raises(NotAdmitted, match="not signed"):
            one.verify(AUTHORITY.certificate, NOW)


def test_an_invented_client_is_refused_even_in_a_signed_roster():
    invented = roster.sign_roster(AUTHORITY, [*SITES, enrol("invented", IMPOSTOR)], 8)
    with pytest.raises(NotAdmitted, match="invented was not issued by this authority"):
        invented.verify(AUTHORITY.certificate, NOW)


def test_whose_certificates_have_ended():
    short = enrol("short", valid_for=YEAR / 12)
    mixed = roster.sign_roster(AUTHORITY, [*SITES, short], 8)
    place = [certificate.name for certificate in mixed.certificates].index("short")
    assert mixed.expired_at(NOW) == frozenset()
    assert mixed.expired_at(NOW + YEAR / 2) == {place}
    assert mixed.expired_at(NOW + 2 * YEAR) == set(range(len(mixed)))


def test_an_expired_certificate_does_not_spoil_the_roster():
    mixed = roster.sign_roster(AUTHORITY, [*SITES, enrol("brief", valid_for=timedelta(days=1))], 8)
    mixed.verify(AUTHORITY.certificate, NOW + timedelta(days=2))
    with pytest.raises(NotAdmitted, match="expired"):
        mixed.certificates[1].check_valid_at(NOW + timedelta(days=2))


def test_names_and_keys_come_once():
    with pytest.raises(NotAdmitted, match="cmc comes twice"):
        roster.sign_roster(AUTHORITY, [*SITES, enrol("cmc")], 8)
    one = enrol("one")
    two = certificates.write_subject("two", Role.PARTICIPANT, "demo")
    builder = authorities._builder(two, one.verifying_key, NOW, YEAR)
    builder = builder.add_extension(certificates.x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(
        certificates.x509.ExtendedKeyUsage(certificates.allowed_purposes(Role.PARTICIPANT)), critical=False
    )
    issuer = certificates.write_subject("authority", Role.AUTHORITY, "demo")
    with pytest.raises(NotAdmitted, match="same key"):
        roster.sign_roster(AUTHORITY, [one, authorities._sign(builder, issuer, AUTHORITY.signing_key)], 8)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.KEY_HOLDER, Role.AUDITOR])
def test_only_participants_enter(role):
    with pytest.raises(NotAdmitted, match=f"x is {role} of demo"):
        roster.sign_roster(AUTHORITY, [enrol("x", role=role)], 8)


def test_only_this_deployment_enters():
    other = authorities.create_authority("other", NOW, YEAR)
    with pytest.raises(NotAdmitted, match="x is participant of other"):
        roster.sign_roster(AUTHORITY, [enrol("x", other)], 8)


@pytest.mark.parametrize("version", [-1, 2**63])
def test_versions_out_of_range_are_refused(version):
    with pytest.raises(ParameterError, match="version"):
        roster.sign_roster(AUTHORITY, SITES, version)
    with pytest.raises(ParameterError, match="version"):
        roster.from_bytes(changed(version=version))


def test_more_than_ten_thousand_are_refused_before_any_is_parsed():
    with pytest.raises(MessageError, match="more than 10000"):
        roster.from_bytes(changed(certificates=["!"] * 10_001))
    with pytest.raises(ParameterError, match="10001 certificates"):
        roster.sign_roster(AUTHORITY, SITES[:1] * 10_001, 1)


def test_too_long_a_file_is_refused_before_it_is_parsed():
    with pytest.raises(MessageError, match="at most"):
        roster.from_bytes(b" " * (roster.FILE_BYTES_MAX + 1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 200_000,
        b"{}",
        changed(format="sangam-roster/2"),
        changed(version=True),
        changed(version=7.0),
        changed(version="7"),
        changed(deployment=None),
        changed(certificates={}),
        changed(certificates=[1]),
        changed(certificates=["*"]),
        changed(certificates=["é"]),
        changed(signature="AAAA"),
        changed(signature="A"),
        changed(surplus=1),
        json.dumps({key: value for key, value in CONTENT.items() if key != "version"}).encode(),
        ROSTER.to_bytes()[:-3],
        ROSTER.to_bytes() + b"{}",
        b'{"version": ' + b"9" * 5000 + b"}",
    ],
)
def test_malformed_files_are_refused(data):
    with pytest.raises(MessageError, match="roster"):
        roster.from_bytes(data)


def test_a_file_out_of_order_or_with_a_broken_certificate_is_refused():
    with pytest.raises(NotAdmitted, match="out of order"):
        roster.from_bytes(changed(certificates=CONTENT["certificates"][::-1]))
    with pytest.raises(NotAdmitted):
        roster.from_bytes(changed(certificates=[base64.b64encode(b"no").decode()]))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_changed_file_never_verifies_as_another_roster(data):
    raw = bytearray(ROSTER.to_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0x20, 0x7E))
    try:
        read = roster.from_bytes(bytes(raw))
        read.verify(AUTHORITY.certificate, NOW)
    except SangamError:
        return
    assert (read.version, read.root) == (ROSTER.version, ROSTER.root)


def test_a_signature_of_another_domain_is_refused():
    signature = signing.sign(AUTHORITY.signing_key, "checkpoint", "demo", 7, ROSTER.root)
    with pytest.raises(NotAdmitted, match="not signed"):
        Roster("demo", 7, ROSTER.certificates, signature).verify(AUTHORITY.certificate, NOW)
