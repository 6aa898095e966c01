"""The consortium's authority: makes itself, and certifies the sites' requests.

    site                               consortium
    request(), renew()  - request ->   issue()      the key never leaves the site
    Identity            <- chain --

If the aggregator also runs the authority, nothing protects against invented clients.

Source: RFC 5280 (profile).
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from aggregator.crypto.certificates import (
    CLOCK_SKEW,
    Certificate,
    Role,
    allowed_purposes,
    check_aware,
    stamp,
    write_subject,
)
from aggregator.crypto.identity import Identity, check_key, dump_key, load_key
from aggregator.crypto.request import SigningRequest, alternative_names, check_hosts, hosts_of, sign_request
from aggregator.crypto.signing import SigningKey, VerifyingKey
from aggregator.errors import NotAdmitted, ParameterError
from aggregator.files import read_file

AUTHORITY_FILE = "authority.pem"
AUTHORITY_KEY_FILE = "authority-key.pem"

_SERIAL_BITS = 158  # RFC 5280 allows 20 octets, positive


@dataclass(frozen=True, slots=True)
class Authority:
    """The consortium's authority with its key. Lives with the consortium, never on the aggregator."""

    certificate: Certificate
    key_pem: bytes = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        check_key(self.certificate, self.key_pem)
        if self.certificate.role is not Role.AUTHORITY:
            raise NotAdmitted(f"{self.certificate.name} is {self.certificate.role}, not an authority")

    @property
    def signing_key(self) -> SigningKey:
        """Signs certificates and rosters."""
        return load_key(self.key_pem)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read `authority.pem` and `authority-key.pem`; errors as `Identity.load`."""
        certificate = Certificate.from_pem(read_file(directory / AUTHORITY_FILE))
        return cls(certificate, read_file(directory / AUTHORITY_KEY_FILE))


def create_authority(deployment: str, now: datetime, valid_for: timedelta) -> Authority:
    """Make the authority of a deployment, self-signed. Run once by the consortium.

    Raises:
        ParameterError: a malformed deployment name, a clock without time zone, or no validity at all.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = write_subject("authority", Role.AUTHORITY, deployment)
    builder = _builder(subject, key.public_key(), now, valid_for)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    return Authority(_sign(builder, subject, key), dump_key(key))


def request(name: str, role: Role, deployment: str, hosts: Sequence[str] = ()) -> tuple[bytes, bytes]:
    """Make a key and a signing request for it. Run by the site; only the request leaves it.

    Returns:
        The private key (PEM, PKCS 8) and the request (PEM).

    Raises:
        ParameterError: a malformed name, a role that is not for sites, hosts where the role has none or the reverse.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    return dump_key(key), sign_request(key, name, role, deployment, hosts)


def renew(identity: Identity) -> bytes:
    """Ask for a new certificate of the same key, name, role and hosts; PEM. Run by the site before the old one ends."""
    old = identity.certificate
    return sign_request(identity.signing_key, old.name, old.role, old.deployment, hosts_of(old))


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
    asked = SigningRequest.from_pem(csr_pem)
    name, deployment = asked.name, authority.certificate.deployment
    if asked.deployment != deployment:
        raise ParameterError(f"request of {name}: for {asked.deployment}, not for {deployment}")
    if asked.role is not role:
        raise ParameterError(f"request of {name}: asks for the role {asked.role}, this call allows only {role}")
    hosts = hosts or asked.hosts
    check_hosts(role, hosts)
    authority.certificate.check_valid_at(now)
    if now + valid_for > authority.certificate.not_after:
        raise ParameterError(f"the authority itself ends on {stamp(authority.certificate.not_after)}")
    builder = _builder(write_subject(name, role, deployment), asked.verifying_key, now, valid_for)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(allowed_purposes(role)), critical=False)
    if hosts:
        builder = builder.add_extension(alternative_names(hosts), critical=False)
    return _sign(builder, write_subject("authority", Role.AUTHORITY, deployment), authority.signing_key)


def _builder(subject: x509.Name, key: VerifyingKey, now: datetime, valid_for: timedelta) -> x509.CertificateBuilder:
    check_aware(now)
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
