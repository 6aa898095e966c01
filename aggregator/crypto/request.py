"""A signing request, as the consortium reads it, and the host names that an aggregator asks for.

Source: RFC 2986.
"""

import hashlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.hashes import SHA256

from aggregator.crypto import pem as pems
from aggregator.crypto.certificates import MALFORMED, Certificate, Role, p256, read_subject, write_subject
from aggregator.crypto.signing import SigningKey, VerifyingKey
from aggregator.errors import NotAdmitted, ParameterError

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """Who asks for a certificate, as what, for which key; signed by that key, which proves nothing else."""

    name: str
    role: Role
    deployment: str
    hosts: tuple[str, ...]
    verifying_key: VerifyingKey = field(repr=False, compare=False)

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read a request.

        Raises:
            ParameterError: another kind of file, outside the profile, or not signed by the key in it.
        """
        if pems.CERTIFICATE in pems.labels(pem):
            raise ParameterError(f"not a signing request but {pems.what_it_is(pem)}: `sangam pki install` takes those")
        try:
            csr = x509.load_pem_x509_csr(pem)
            name, role, deployment = read_subject(csr.subject)
            found = cls(name, role, deployment, _read_hosts(csr.extensions), p256(csr.public_key()))
            signed = csr.is_signature_valid
        except MALFORMED:
            raise ParameterError("not a signing request that can be read: make one with `sangam pki request`") from None
        if not signed:
            raise ParameterError("the signing request is not signed by the key in it")
        return found


def sign_request(key: SigningKey, name: str, role: Role, deployment: str, hosts: Sequence[str]) -> bytes:
    """Ask for a certificate of this key; PEM.

    Raises:
        ParameterError: a malformed name, a role that is not for sites, hosts where the role has none or the reverse.
    """
    check_hosts(role, hosts)
    builder = x509.CertificateSigningRequestBuilder().subject_name(write_subject(name, role, deployment))
    if hosts:
        builder = builder.add_extension(alternative_names(hosts), critical=False)
    return builder.sign(key, SHA256()).public_bytes(serialization.Encoding.PEM)


def key_fingerprint(key: VerifyingKey) -> str:
    """SHA-256 of the public key's DER in hexadecimal: tells by telephone whose request it is."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def hosts_of(certificate: Certificate) -> tuple[str, ...]:
    """The DNS names and IP addresses under which the holder may serve; none but an aggregator's has any.

    Raises:
        NotAdmitted: it names anything else.
    """
    try:
        return _read_hosts(x509.load_der_x509_certificate(certificate.der).extensions)
    except MALFORMED:
        raise NotAdmitted(f"the certificate of {certificate.name} names more than hosts") from None


def check_hosts(role: Role, hosts: Sequence[str]) -> None:
    """An aggregator names at least one host, others none, and nobody asks to be an authority; else ParameterError."""
    if role is Role.AUTHORITY:
        raise ParameterError("nobody can ask for the role authority: it is made with the consortium")
    if role is Role.AGGREGATOR and not hosts:
        raise ParameterError("an aggregator's certificate needs at least one host (DNS name or IP address)")
    if role is not Role.AGGREGATOR and hosts:
        raise ParameterError(f"only an aggregator's certificate names hosts, not the one of a {role}")


def alternative_names(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    """The extension that names the hosts; ParameterError for what is neither a DNS name nor an IP address."""
    return x509.SubjectAlternativeName([_general_name(host) for host in hosts])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _is_dns_name(host):
            raise ParameterError(f"host {host[:80]!r} is neither a DNS name nor an IP address") from None
        return x509.DNSName(host)


def _read_hosts(extensions: x509.Extensions) -> tuple[str, ...]:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = tuple(str(name.value) for name in names)
    for host, name in zip(hosts, names, strict=True):  # they are shown to people: a line break could forge a line
        if not (isinstance(name, x509.IPAddress) or (isinstance(name, x509.DNSName) and _is_dns_name(host))):
            raise ValueError("neither a DNS name nor an IP address")
    return hosts


def _is_dns_name(host: str) -> bool:
    return len(host) <= 253 and _HOST.fullmatch(host) is not None
