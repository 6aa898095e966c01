"""Who is who: the consortium's authority, the sites' certificates, and a site's identity on disk.

    site                          consortium
    request()  -- request.pem ->  issue()      the key never leaves the site
    Identity   <- certificate --

One subject profile for all: CN = name, OU = role, O = deployment. Every key is on P-256: gRPC's BoringSSL refuses
Ed25519 certificates. Only the aggregator's certificate may serve TLS and names hosts, so that no participant can
pose as the server. If the aggregator also runs the authority, nothing protects against invented clients.

Source: RFC 5280 (profile), RFC 2986 (requests).
"""

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aggregator.crypto.signing import SigningKey, VerifyingKey
from aggregator.errors import NotAdmitted, ParameterError, StorageError

KEY_FILE = "key.pem"
CERTIFICATE_FILE = "certificate.pem"
AUTHORITY_FILE = "authority.pem"
AUTHORITY_KEY_FILE = "authority-key.pem"

CERTIFICATE_BYTES_MAX = 8192
CLOCK_SKEW = timedelta(hours=1)  # a certificate starts this much early: hospital clocks differ

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_SERIAL_BITS = 158  # RFC 5280 allows 20 octets, positive
_MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,  # serial not positive: refused below, or here where warnings are errors
)


class Role(StrEnum):
    """What a certificate allows its holder to be."""

    PARTICIPANT = "participant"
    OPERATOR = "operator"
    AGGREGATOR = "aggregator"
    KEY_HOLDER = "key-holder"
    AUDITOR = "auditor"
    AUTHORITY = "authority"


@dataclass(frozen=True, slots=True)
class Certificate:
    """One parsed certificate; every field is read from `der`.

    The fingerprint finds a certificate in the roster. Revoke by serial, never by fingerprint: the holder can wrap the
    same signed content in other bytes, since an ECDSA signature has more than one encoding.
    """

    name: str
    role: Role
    deployment: str
    serial: int
    not_before: datetime
    not_after: datetime
    der: bytes = field(repr=False)
    fingerprint: bytes = field(repr=False)
    verifying_key: VerifyingKey = field(repr=False, compare=False)

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Parse one PEM certificate; errors as `from_der`."""
        try:
            der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
        except _MALFORMED:
            raise NotAdmitted("not a PEM certificate that can be read") from None
        return cls.from_der(der)

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Parse one DER certificate. Its signature is not checked here: see `issued_by`.

        Raises:
            NotAdmitted: not a certificate, too long, or outside this consortium's profile.
        """
        if len(der) > CERTIFICATE_BYTES_MAX:
            raise NotAdmitted(f"a certificate of {len(der)} bytes, at most {CERTIFICATE_BYTES_MAX} are read")
        try:
            parsed = x509.load_der_x509_certificate(der)
            name, role, deployment = _read_subject(parsed.subject)
            _check_profile(parsed, role)
            return cls(
                name,
                role,
                deployment,
                parsed.serial_number,
                parsed.not_valid_before_utc,
                parsed.not_valid_after_utc,
                der,
                hashlib.sha256(der).digest(),
                _p256(parsed.public_key()),
            )
        except _MALFORMED:
            raise NotAdmitted("a certificate that cannot be read") from None

    @property
    def pem(self) -> bytes:
        """The same certificate as PEM, for TLS and for files."""
        return x509.load_der_x509_certificate(self.der).public_bytes(serialization.Encoding.PEM)

    def issued_by(self, authority: "Certificate") -> bool:
        """Whether the authority of the same deployment signed this certificate."""
        if authority.role is not Role.AUTHORITY or authority.deployment != self.deployment:
            return False
        issuer = x509.load_der_x509_certificate(authority.der)
        try:
            x509.load_der_x509_certificate(self.der).verify_directly_issued_by(issuer)
        except (*_MALFORMED, InvalidSignature):
            return False
        return True

    def check_valid_at(self, now: datetime) -> None:
        """Compare the validity with the caller's clock.

        Raises:
            NotAdmitted: expired, or not yet valid; says since or until when.
            ParameterError: `now` has no time zone.
        """
        _check_aware(now)
        if now > self.not_after:
            raise NotAdmitted(f"the certificate of {self.name} expired on {_stamp(self.not_after)}")
        if now < self.not_before:
            raise NotAdmitted(f"the certificate of {self.name} is not valid before {_stamp(self.not_before)}")


@dataclass(frozen=True, slots=True)
class Authority:
    """The consortium's authority with its key. Lives with the consortium, never on the aggregator."""

    certificate: Certificate
    key_pem: bytes = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_key(self.certificate, self.key_pem)
        if self.certificate.role is not Role.AUTHORITY:
            raise NotAdmitted(f"{self.certificate.name} is {self.certificate.role}, not an authority")

    @property
    def signing_key(self) -> SigningKey:
        """Signs certificates and rosters."""
        return _load_key(self.key_pem)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read `authority.pem` and `authority-key.pem`; errors as `Identity.load`."""
        certificate = Certificate.from_pem(read_file(directory / AUTHORITY_FILE))
        return cls(certificate, read_file(directory / AUTHORITY_KEY_FILE))

    def save(self, directory: Path) -> None:
        """Write both files; errors as `write_new`."""
        write_new(directory, {AUTHORITY_KEY_FILE: self.key_pem}, {AUTHORITY_FILE: self.certificate.pem})


@dataclass(frozen=True, slots=True)
class Identity:
    """A site's certificate with its own key, and the authority that it trusts."""

    certificate: Certificate
    key_pem: bytes = field(repr=False, compare=False)
    authority: Certificate

    def __post_init__(self) -> None:
        _check_key(self.certificate, self.key_pem)
        if not self.certificate.issued_by(self.authority):
            raise NotAdmitted(
                f"the certificate of {self.certificate.name} ({self.certificate.deployment}) "
                f"was not issued by this authority ({self.authority.deployment})"
            )

    @property
    def signing_key(self) -> SigningKey:
        """Signs the round's messages; the same key as in TLS, kept apart by domain (crypto.signing)."""
        return _load_key(self.key_pem)

    def check(self, role: Role, now: datetime) -> None:
        """Name every fault of this identity before dialling, since TLS would only say "unavailable".

        Raises:
            NotAdmitted: another role, expired or not yet valid (own certificate or the authority's).
        """
        if self.certificate.role is not role:
            raise NotAdmitted(f"{self.certificate.name} is certified as {self.certificate.role}, not as {role}")
        self.certificate.check_valid_at(now)
        self.authority.check_valid_at(now)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read `key.pem`, `certificate.pem` and `authority.pem`.

        Raises:
            StorageError: a file is missing or cannot be read.
            NotAdmitted: not certificates of ours, the key is another one's, or another authority issued it.
        """
        key_pem = read_file(directory / KEY_FILE)
        certificate = Certificate.from_pem(read_file(directory / CERTIFICATE_FILE))
        return cls(certificate, key_pem, Certificate.from_pem(read_file(directory / AUTHORITY_FILE)))

    def save(self, directory: Path) -> None:
        """Write the three files; errors as `write_new`."""
        public = {CERTIFICATE_FILE: self.certificate.pem, AUTHORITY_FILE: self.authority.pem}
        write_new(directory, {KEY_FILE: self.key_pem}, public)


def create_authority(deployment: str, now: datetime, valid_for: timedelta) -> Authority:
    """Make the authority of a deployment, self-signed. Run once by the consortium.

    Raises:
        ParameterError: a malformed deployment name, a clock without time zone, or no validity at all.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject("authority", Role.AUTHORITY, deployment)
    builder = _builder(subject, key.public_key(), now, valid_for)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    return Authority(_sign(builder, subject, key), _dump_key(key))


def request(name: str, role: Role, deployment: str, hosts: Sequence[str] = ()) -> tuple[bytes, bytes]:
    """Make a key and a signing request for it. Run by the site; only the request leaves it.

    Returns:
        The private key (PEM, PKCS 8) and the request (PEM).

    Raises:
        ParameterError: a malformed name, a role that is not for sites, hosts where the role has none or the reverse.
    """
    _check_hosts(role, hosts)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(name, role, deployment))
    if hosts:
        builder = builder.add_extension(_alternative_names(hosts), critical=False)
    return _dump_key(key), builder.sign(key, SHA256()).public_bytes(serialization.Encoding.PEM)


def issue(
    authority: Authority,
    csr_pem: bytes,
    now: datetime,
    *,
    valid_for: timedelta,
    role: Role = Role.PARTICIPANT,
    hosts: Sequence[str] = (),
) -> Certificate:
    """Certify one request. Run by the consortium after it has made sure who sent the request.

    Args:
        authority: the consortium's authority.
        csr_pem: the site's request.
        now: the consortium's clock, with time zone.
        valid_for: how long; must end before the authority does.
        role: the only role that this call may grant; another one in the request is refused.
        hosts: DNS names and IP addresses of an aggregator, instead of the requested ones.

    Raises:
        ParameterError: not a request, another role or deployment, hosts that don't fit, or too long a validity.
        NotAdmitted: the authority has expired.
    """
    csr = _load_request(csr_pem)
    name, asked, deployment = _read_subject(csr.subject)
    if deployment != authority.certificate.deployment:
        raise ParameterError(f"request of {name}: for {deployment}, not for {authority.certificate.deployment}")
    if asked is not role:
        raise ParameterError(f"request of {name}: asks for the role {asked}, this call allows only {role}")
    hosts = hosts or _requested_hosts(csr)
    _check_hosts(role, hosts)
    authority.certificate.check_valid_at(now)
    if now + valid_for > authority.certificate.not_after:
        raise ParameterError(f"the authority itself ends on {_stamp(authority.certificate.not_after)}")
    builder = _builder(_subject(name, role, deployment), _p256(csr.public_key()), now, valid_for)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(_purposes(role)), critical=False)
    if hosts:
        builder = builder.add_extension(_alternative_names(hosts), critical=False)
    return _sign(builder, _subject("authority", Role.AUTHORITY, deployment), authority.signing_key)


def check_name(kind: str, name: str) -> None:
    """Names go into files and tables: lower-case letters, digits, dot, dash, underscore; 63 at most.

    Raises:
        ParameterError: `name` is not such a name.
    """
    if not _NAME.fullmatch(name):
        raise ParameterError(f"{kind} {name[:80]!r}: use 1 to 63 of a-z, 0-9, '.', '_', '-', letter or digit first")


def read_file(path: Path) -> bytes:
    """Read one small file.

    Raises:
        StorageError: it cannot be read; says which and why.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from None


def write_new(directory: Path, private: Mapping[str, bytes], public: Mapping[str, bytes]) -> None:
    """Write new files, each fsynced; private ones are readable by their owner only from the first byte on.

    Raises:
        ParameterError: one of the files exists; nothing was written.
        StorageError: the disk refused.
    """
    taken = [name for name in (*private, *public) if (directory / name).exists()]
    if taken:
        raise ParameterError(f"{directory / taken[0]} exists already and is never overwritten: move it away first")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in private.items():
            _write(directory / name, data, 0o600)
        for name, data in public.items():
            _write(directory / name, data, 0o644)
        sync_directory(directory)
    except OSError as error:
        raise StorageError(f"cannot write into {directory}: {error.strerror}") from None


def sync_directory(directory: Path) -> None:
    """Make new or replaced names in `directory` survive a power cut; OSError when the disk refuses."""
    if os.name == "posix":  # Windows opens no directories, and keeps names by itself
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read_subject(subject: x509.Name) -> tuple[str, Role, str]:
    """CN, OU and O, exactly one each; anything else is a ValueError for the caller to name."""
    values = {attribute.oid: str(attribute.value) for attribute in subject}
    expected = {NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME}
    name, deployment = values.get(NameOID.COMMON_NAME, ""), values.get(NameOID.ORGANIZATION_NAME, "")
    if len(list(subject)) != 3 or set(values) != expected:
        raise ValueError("subject outside the profile")
    if not (_NAME.fullmatch(name) and _NAME.fullmatch(deployment)):
        raise ValueError("malformed name in the subject")
    return name, Role(values[NameOID.ORGANIZATIONAL_UNIT_NAME]), deployment


def _subject(name: str, role: Role, deployment: str) -> x509.Name:
    check_name("name", name)
    check_name("deployment", deployment)
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, deployment),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role.value),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _check_profile(parsed: x509.Certificate, role: Role) -> None:
    """Only an authority may sign certificates, only an aggregator may serve TLS; a ValueError names nothing else."""
    constraints = parsed.extensions.get_extension_for_class(x509.BasicConstraints).value
    if constraints.ca is not (role is Role.AUTHORITY) or parsed.serial_number <= 0:
        raise ValueError("constraints outside the profile")
    if role is not Role.AUTHORITY:
        purposes = parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if list(purposes) != _purposes(role):
            raise ValueError("purposes outside the profile")


def _builder(subject: x509.Name, key: VerifyingKey, now: datetime, valid_for: timedelta) -> x509.CertificateBuilder:
    _check_aware(now)
    if valid_for <= timedelta(0):
        raise ParameterError("a certificate must be valid for some time")
    builder = x509.CertificateBuilder(subject_name=subject, public_key=key)
    builder = builder.serial_number(1 + secrets.randbits(_SERIAL_BITS))
    builder = builder.not_valid_before(now - CLOCK_SKEW).not_valid_after(now + valid_for)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _sign(builder: x509.CertificateBuilder, issuer: x509.Name, key: SigningKey) -> Certificate:
    issued_with = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = builder.issuer_name(issuer).add_extension(issued_with, critical=False)
    return Certificate.from_der(builder.sign(key, SHA256()).public_bytes(serialization.Encoding.DER))


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _purposes(role: Role) -> list[x509.ObjectIdentifier]:
    serves = [ExtendedKeyUsageOID.SERVER_AUTH] if role is Role.AGGREGATOR else []
    return [ExtendedKeyUsageOID.CLIENT_AUTH, *serves]


def _check_hosts(role: Role, hosts: Sequence[str]) -> None:
    if role is Role.AUTHORITY:
        raise ParameterError("nobody can ask for the role authority: it is made with the consortium")
    if role is Role.AGGREGATOR and not hosts:
        raise ParameterError("an aggregator's certificate needs at least one host (DNS name or IP address)")
    if role is not Role.AGGREGATOR and hosts:
        raise ParameterError(f"only an aggregator's certificate names hosts, not the one of a {role}")


def _alternative_names(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_general_name(host) for host in hosts])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if len(host) > 253 or not _HOST.fullmatch(host):
            raise ParameterError(f"host {host[:80]!r} is neither a DNS name nor an IP address") from None
        return x509.DNSName(host)


def _requested_hosts(csr: x509.CertificateSigningRequest) -> list[str]:
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]


def _load_request(csr_pem: bytes) -> x509.CertificateSigningRequest:
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        _read_subject(csr.subject)
        _p256(csr.public_key())
        _requested_hosts(csr)
        signed = csr.is_signature_valid
    except _MALFORMED:
        raise ParameterError("not a signing request that can be read: make one with `sangam pki request`") from None
    if not signed:
        raise ParameterError("the signing request is not signed by the key in it")
    return csr


def _p256(key: object) -> VerifyingKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise TypeError("not a key on P-256")
    return key


def _dump_key(key: SigningKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(key_pem: bytes) -> SigningKey:
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except _MALFORMED:
        raise NotAdmitted("the private key cannot be read: it must be an unencrypted PEM file") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise NotAdmitted("the private key is not on P-256")
    return key


def _check_key(certificate: Certificate, key_pem: bytes) -> None:
    own, certified = _raw(_load_key(key_pem).public_key()), _raw(certificate.verifying_key)
    if not hmac.compare_digest(own, certified):
        raise NotAdmitted(f"the private key does not belong to the certificate of {certificate.name}")


def _raw(key: VerifyingKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def _check_aware(now: datetime) -> None:
    if now.tzinfo is None:
        raise ParameterError("a time without time zone: pass one in UTC")


def _stamp(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
