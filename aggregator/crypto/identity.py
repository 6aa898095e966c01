"""A site's identity on disk: its key in one file; its certificate, and the authority that it trusts, in another.

key.pem        made by the site, never leaves it
identity.pem   public: the certificate, then the authority's; what the consortium hands over, replaced by a renewal
"""

import hmac
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aggregator.crypto import pem as pems
from aggregator.crypto.certificates import MALFORMED, Certificate, Role
from aggregator.crypto.signing import SigningKey, VerifyingKey
from aggregator.errors import NotAdmitted
from aggregator.files import read_file, state, write_new

KEY_FILE = "key.pem"
IDENTITY_FILE = "identity.pem"

_BETWEEN = b"-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Identity:
    """A site's certificate with its own key, and the authority that it trusts."""

    certificate: Certificate
    key_pem: bytes = field(repr=False, compare=False)
    authority: Certificate

    def __post_init__(self) -> None:
        check_key(self.certificate, self.key_pem)
        if not self.certificate.issued_by(self.authority):
            raise NotAdmitted(
                f"the certificate of {self.certificate.name} ({self.certificate.deployment}) "
                f"was not issued by this authority ({self.authority.deployment})"
            )

    @property
    def signing_key(self) -> SigningKey:
        """Signs the round's messages; the same key as in TLS, kept apart by domain (crypto.signing)."""
        return load_key(self.key_pem)

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
        """Read `key.pem` and `identity.pem`.

        Raises:
            StorageError: a file is missing or cannot be read.
            NotAdmitted: not certificates of ours, the key is another one's, or another authority issued it.
        """
        key_pem = read_file(directory / KEY_FILE)
        certificate, authority = read_chain(read_file(directory / IDENTITY_FILE))
        return cls(certificate, key_pem, authority)

    @staticmethod
    def state(directory: Path) -> object:
        """What tells the files from those that were there before, unread."""
        return state(directory / KEY_FILE), state(directory / IDENTITY_FILE)

    def save(self, directory: Path) -> None:
        """Write both files; errors as `write_new`."""
        public = {IDENTITY_FILE: write_chain(self.certificate, self.authority)}
        write_new(directory, {KEY_FILE: self.key_pem}, public)


def write_chain(certificate: Certificate, authority: Certificate) -> bytes:
    """The public part of an identity: two certificates in one PEM file, the holder's first."""
    return certificate.pem + authority.pem


def read_chain(pem: bytes) -> tuple[Certificate, Certificate]:
    """Read what `write_chain` wrote: the holder's certificate and the authority's; nothing is verified yet.

    Raises:
        NotAdmitted: another kind of file, or certificates that cannot be read.
    """
    found = pems.labels(pem)
    if found != [pems.CERTIFICATE, pems.CERTIFICATE]:
        what = pems.what_it_is(pem)
        raise NotAdmitted(f"an identity is two certificates, the site's and the authority's; this is {what}")
    first, _, second = pem.partition(_BETWEEN)
    return Certificate.from_pem(first + _BETWEEN), Certificate.from_pem(second)


def dump_key(key: SigningKey) -> bytes:
    """A private key as unencrypted PKCS 8, PEM; its file is readable by its owner only (files.write_new)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(key_pem: bytes) -> SigningKey:
    """Read a private key; NotAdmitted when it cannot be read, or is not on P-256."""
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except MALFORMED:
        raise NotAdmitted("the private key cannot be read: it must be an unencrypted PEM file") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise NotAdmitted("the private key is not on P-256")
    return key


def check_key(certificate: Certificate, key_pem: bytes) -> None:
    """NotAdmitted unless the private key is the certificate's."""
    own, certified = encode_key(load_key(key_pem).public_key()), encode_key(certificate.verifying_key)
    if not hmac.compare_digest(own, certified):
        raise NotAdmitted(f"the private key does not belong to the certificate of {certificate.name}")


def encode_key(key: VerifyingKey) -> bytes:
    """A public key as its uncompressed point, 65 bytes: one encoding, so that equal keys are equal bytes."""
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
