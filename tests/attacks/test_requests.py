"""A site, or whoever carries its request, that wants more of the consortium than its own certificate."""

import os
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aggregator import consortium as consortiums
from aggregator import enrolment
from aggregator.command import pki_tables
from aggregator.crypto import roster as rosters
from aggregator.crypto.authority import Authority
from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import write_chain
from aggregator.crypto.request import hosts_of
from aggregator.errors import NameTaken, NotAdmitted, ParameterError, SangamError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def consortium(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    consortiums.initialise(tmp_path / "consortium", "demo", NOW, 10 * YEAR)
    return tmp_path / "consortium"


def forged(name="hub", role="aggregator", *extensions):
    """A request as `sangam pki request` would never make it."""
    parts = ((NameOID.ORGANIZATION_NAME, "demo"), (NameOID.ORGANIZATIONAL_UNIT_NAME, role), (NameOID.COMMON_NAME, name))
    subject = x509.Name([x509.NameAttribute(kind, text, _validate=False) for kind, text in parts])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, SHA256()).public_bytes(serialization.Encoding.PEM)


def issue(consortium, csr_pem, role=Role.PARTICIPANT, **options):
    file = consortium.parent / "asked.pem"
    file.write_bytes(csr_pem)
    return consortiums.issue_identity(file, consortium, None, NOW, valid_for=YEAR, role=role, **options)


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        x509.DNSName("hub\n  key " + "0" * 64),
        x509.DNSName("hub\x1b[2J"),
        x509.UniformResourceIdentifier("https://hub\x1b[2J"),
        x509.RFC822Name("a@hub"),
        x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub\x1b[2J")])),
    ],
)
def test_a_hosts_name_that_forges_the_line_which_is_compared_by_telephone(consortium, name):
    csr_pem = forged("hub", "aggregator", x509.SubjectAlternativeName([name]))
    with pytest.raises(ParameterError, match="not a signing request that can be read"):
        list(pki_tables.describe(csr_pem))
    with pytest.raises(ParameterError, match="not a signing request that can be read"):
        issue(consortium, csr_pem, Role.AGGREGATOR, hosts=("hub.example.org",))


def test_a_certificate_of_a_stranger_with_such_a_host_is_not_shown(consortium):
    authority = Authority.load(consortium)
    honest = x509.load_der_x509_certificate(
        issue(consortium, forged("hub", "aggregator"), Role.AGGREGATOR, hosts=("hub",)).certificate.der
    )
    builder = x509.CertificateBuilder(honest.issuer, honest.subject, honest.public_key(), honest.serial_number)
    builder = builder.not_valid_before(honest.not_valid_before_utc).not_valid_after(honest.not_valid_after_utc)
    for extension in honest.extensions:
        lie = isinstance(extension.value, x509.SubjectAlternativeName)
        value = x509.SubjectAlternativeName([x509.DNSName("hub\n  key 00")]) if lie else extension.value
        builder = builder.add_extension(value, extension.critical)
    with pytest.raises(NotAdmitted, match="the certificate of hub names more than hosts"):
        list(
            pki_tables.describe(builder.sign(authority.signing_key, SHA256()).public_bytes(serialization.Encoding.PEM))
        )


@pytest.mark.parametrize(
    "name", ["../delhi", "delhi/../../x", "/delhi", "..", "delhi\n", "Delhi", "de\x1b[2Jlhi", "d\u0435lhi", "x" * 64]
)
def test_a_name_that_climbs_out_or_looks_like_another_ones(consortium, name):
    before = contents(consortium.parent)
    csr_pem = forged(name, "participant")
    with pytest.raises(ParameterError, match="not a signing request that can be read") as refusal:
        issue(consortium, csr_pem)
    assert str(refusal.value).isprintable()
    (consortium.parent / "asked.pem").unlink()
    assert contents(consortium.parent) == before


def test_extensions_that_were_asked_for_are_not_granted(consortium):
    wanted = (
        x509.BasicConstraints(ca=True, path_length=9),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.KeyUsage(*[True] * 7, False, False),
    )
    certificate = issue(consortium, forged("delhi", "participant", *wanted)).certificate
    granted = x509.load_der_x509_certificate(certificate.der).extensions
    assert not granted.get_extension_for_class(x509.BasicConstraints).value.ca
    purposes = granted.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not granted.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert hosts_of(certificate) == ()


@pytest.mark.parametrize("role", [role.value for role in Role if role is not Role.PARTICIPANT])
def test_a_role_that_nobody_has_granted(consortium, role):
    with pytest.raises(ParameterError, match=f"asks for the role {role}, this call allows only participant"):
        issue(consortium, forged("delhi", role))


def test_another_sites_name_under_ones_own_key_and_the_reverse(consortium):
    home = consortium.parent
    victim = enrolment.request_identity(home / "victim", "delhi", Role.PARTICIPANT, "demo")
    issue(consortium, victim.read_bytes())
    before = contents(consortium)
    with pytest.raises(NameTaken, match="delhi is certified with another key"):
        issue(consortium, forged("delhi", "participant"))
    issue(consortium, forged("mallory", "participant"))
    with pytest.raises(NotAdmitted, match="the key of this request of pune is that of mallory"):
        issue(consortium, forged("pune", "participant"))
    assert before.keys() == contents(consortium).keys()


@pytest.mark.parametrize("name", ["authority", "authority-key"])
def test_a_name_whose_file_would_be_the_consortiums_own(consortium, name, monkeypatch):
    monkeypatch.chdir(consortium)
    before = contents(consortium)
    with pytest.raises(ParameterError, match=rf"^{name}.pem exists already and is no identity"):
        issue(consortium, forged(name, "participant"))
    assert contents(consortium) == before


def test_a_link_in_the_place_of_the_file_for_the_site_is_not_followed(consortium):
    elsewhere = consortium.parent / "elsewhere"
    for target in ("delhi.pem", "delhi.pem.new"):
        (consortium.parent / target).symlink_to(elsewhere)
    given = issue(consortium, forged("delhi", "participant"))
    assert not elsewhere.exists()
    assert not given.file.is_symlink()


@pytest.fixture
def answer(consortium):
    """A site that has asked, and what an honest consortium sends back."""
    asked = enrolment.request_identity(consortium.parent / "site", "delhi", Role.PARTICIPANT, "demo")
    return issue(consortium, asked.read_bytes()).file


def third_certificate(consortium, honest):
    return honest + issue(consortium, forged("mallory", "participant")).certificate.pem


def foreign_authority_in_front(consortium, honest):
    foreign = consortiums.initialise(consortium.parent / "foreign", "demo", NOW, YEAR)
    return foreign.certificate.pem + honest


def private_key(consortium, honest):
    return honest + (consortium.parent / "site" / "key.pem").read_bytes()


def another_sites(consortium, honest):
    given = issue(consortium, forged("mallory", "participant"))
    return write_chain(given.certificate, given.authority)


@pytest.mark.parametrize("lie", [third_certificate, foreign_authority_in_front, private_key, another_sites])
def test_a_bundle_with_more_or_other_than_was_asked_for(consortium, answer, lie):
    answer.write_bytes(lie(consortium, answer.read_bytes()))
    with pytest.raises(NotAdmitted):
        enrolment.install_identity(answer, consortium.parent / "site", NOW)
    assert not (consortium.parent / "site" / "identity.pem").exists()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_no_umask_lets_others_put_a_key_in_the_keys_place(tmp_path):
    before = os.umask(0)
    try:
        enrolment.request_identity(tmp_path / "site", "delhi", Role.PARTICIPANT, "demo")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "site").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "site" / "key.pem").stat().st_mode) == 0o600


def test_a_roster_whose_deployment_a_terminal_obeys(consortium):
    honest = (consortium / "roster.json").read_bytes()
    with pytest.raises(SangamError) as refusal:
        rosters.from_bytes(honest.replace(b'"demo"', b'"demo\\u001b[2J"'))
    assert str(refusal.value).isprintable()
