"""Certificates: one subject profile for all sites, and who may be what.

CN = name, OU = role, O = deployment. Every key is on P-256: gRPC's BoringSSL refuses Ed25519 certificates. Only the
aggregator's certificate may serve TLS and names hosts, so that no participant can pose as the server.

Source: RFC 5280.
"""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aggregator.crypto.signing import VerifyingKey
from aggregator.errors import NotAdmitted, ParameterError

CERTIFICATE_BYTES_MAX = 8192
CLOCK_SKEW = timedelta(hours=1)  # a certificate starts this much early: hospital clocks differ
MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,  # raised where warnings are errors, on a negative serial number
)
"""What `cryptography` raises on malformed certificates, requests and keys."""

EXPIRES_SOON = timedelta(days=30)
REMIND_EVERY = timedelta(days=1)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


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
        except MALFORMED:
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
            name, role, deployment = read_subject(parsed.subject)
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
                p256(parsed.public_key()),
            )
        except MALFORMED:
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
        except (*MALFORMED, InvalidSignature):
            return False
        return True

    def check_valid_at(self, now: datetime) -> None:
        """Compare the validity with the caller's clock.

        Raises:
            NotAdmitted: expired, or not yet valid; says since or until when.
            ParameterError: `now` has no time zone.
        """
        check_aware(now)
        if now > self.not_after:
            raise NotAdmitted(f"the certificate of {self.name} expired on {stamp(self.not_after)}")
        if now < self.not_before:
            raise NotAdmitted(f"the certificate of {self.name} is not valid before {stamp(self.not_before)}")


class Reminder:
    """When to say again that a certificate is about to end."""

    def __init__(self) -> None:
        self._silent_until = datetime.min.replace(tzinfo=UTC)

    def is_due(self, certificate: Certificate, now: datetime) -> bool:
        """Once a day, over its last thirty."""
        if certificate.not_after - now >= EXPIRES_SOON or now < self._silent_until:
            return False
        self._silent_until = now + REMIND_EVERY
        return True


def check_name(kind: str, name: str) -> None:
    """Names go into files and tables: lower-case letters, digits, dot, dash, underscore; 63 at most.

    Raises:
        ParameterError: `name` is not such a name.
    """
    if not _NAME.fullmatch(name):
        raise ParameterError(f"{kind} {name[:80]!r}: use 1 to 63 of a-z, 0-9, '.', '_', '-', letter or digit first")


def read_subject(subject: x509.Name) -> tuple[str, Role, str]:
    """CN, OU and O, exactly one each; anything else is a ValueError for the caller to name."""
    values = {attribute.oid: str(attribute.value) for attribute in subject}
    expected = {NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME}
    name, deployment = values.get(NameOID.COMMON_NAME, ""), values.get(NameOID.ORGANIZATION_NAME, "")
    if len(list(subject)) != 3 or set(values) != expected:
        raise ValueError("subject outside the profile")
    if not (_NAME.fullmatch(name) and _NAME.fullmatch(deployment)):
        raise ValueError("malformed name in the subject")
    return name, Role(values[NameOID.ORGANIZATIONAL_UNIT_NAME]), deployment


def write_subject(name: str, role: Role, deployment: str) -> x509.Name:
    """The subject of the profile; ParameterError for malformed names."""
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
        if list(purposes) != allowed_purposes(role):
            raise ValueError("purposes outside the profile")


def allowed_purposes(role: Role) -> list[x509.ObjectIdentifier]:
    """The extended key usages that a role's certificate carries, and no others."""
    serves = [ExtendedKeyUsageOID.SERVER_AUTH] if role is Role.AGGREGATOR else []
    return [ExtendedKeyUsageOID.CLIENT_AUTH, *serves]


def p256(key: object) -> VerifyingKey:
    """The key, if it is on P-256; else a TypeError for the caller to name."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise TypeError("not a key on P-256")
    return key


def check_aware(now: datetime) -> None:
    """Refuse a clock without time zone, with ParameterError."""
    if now.tzinfo is None:
        raise ParameterError("a time without time zone: pass one in UTC")


def stamp(moment: datetime) -> str:
    """A moment for people."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
