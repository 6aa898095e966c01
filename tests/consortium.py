"""Participants with real certificates and a signed roster, made from fixed seeds so that a failure repeats.

Never use these keys outside tests: anybody can compute them.
"""

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aggregator.crypto.authority import Authority
from aggregator.crypto.certificates import Certificate, Role
from aggregator.crypto.identity import Identity
from aggregator.crypto.roster import Roster, sign_roster
from aggregator.crypto.signing import SigningKey
from aggregator.protocol.context import RoundTerms, hash_model
from aggregator.protocol.parameters import Parameters
from aggregator.protocol.participant import Safeguards, Site
from aggregator.rounds.phase import Setting
from aggregator.storage.spool import MemorySpool

VALID = datetime(2020, 1, 1, tzinfo=UTC), datetime(2220, 1, 1, tzinfo=UTC)
DEPLOYMENT, TASK = "demo", "sepsis"
ANY_COHORT = Safeguards(minimum_cohort=2)

Entropy: TypeAlias = Callable[[int], bytes]


def drbg(*label: object) -> Entropy:
    """A deterministic os.urandom."""
    counter = itertools.count()
    return lambda size: hashlib.shake_256(repr((label, next(counter))).encode()).digest(size)


@dataclass(frozen=True)
class Consortium:
    """An authority, n participants named site-0000 ... in roster order, and the signed roster."""

    authority: Authority
    identities: tuple[Identity, ...]
    roster: Roster
    signing_keys: tuple[SigningKey, ...] = field(repr=False)

    @staticmethod
    @cache
    def of(n: int) -> "Consortium":
        """Made once for each n."""
        root = _key("authority")
        authority = Authority(_certify("authority", Role.AUTHORITY, root, root), _pem(root))
        keys = tuple(_key("site", i) for i in range(n))
        sites = [_certify(f"site-{i:04}", Role.PARTICIPANT, key, root) for i, key in enumerate(keys)]
        identities = [Identity(site, _pem(key), authority.certificate) for site, key in zip(sites, keys, strict=True)]
        return Consortium(authority, tuple(identities), sign_roster(authority, sites, 1), keys)

    def site(self, client: int, safeguards: Safeguards = ANY_COHORT) -> Site:
        """What one participant knows before any round."""
        certificate = self.identities[client].certificate
        return Site(certificate, self.authority.certificate, self.signing_keys[client], safeguards)

    def terms(self, parameters: Parameters, **changes: Any) -> RoundTerms:
        """The terms of round 1 of the task."""
        fields: dict[str, Any] = {
            "deployment": DEPLOYMENT,
            "task": TASK,
            "round": 1,
            "server_nonce": bytes(range(32)),
            "roster_size": len(self.roster),
            "roster_root": self.roster.root,
            "authority_hash": self.authority.certificate.fingerprint,
            "model_hash": hash_model(None),
            "parameters": parameters,
        }
        return RoundTerms(**{**fields, **changes})

    def setting(self, terms: RoundTerms) -> Setting:
        """The server's side of a round, with a spool of its own."""
        return Setting(terms, self.roster, self.roster.to_bytes(), MemorySpool())


def _key(*label: object) -> SigningKey:
    return ec.derive_private_key(1 + int.from_bytes(drbg("key", *label)(31), "big"), ec.SECP256R1())


def _pem(key: SigningKey) -> bytes:
    no_encryption = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_encryption)


def _subject(name: str, role: Role) -> x509.Name:
    oids = (NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME)
    return x509.Name([x509.NameAttribute(o, v) for o, v in zip(oids, (DEPLOYMENT, role.value, name), strict=True)])


def _certify(name: str, role: Role, key: SigningKey, issuer: SigningKey) -> Certificate:
    """As identity.issue, but with fixed serial and deterministic signature, so that ctx0 is the same in every run."""
    subject, ca = _subject(name, role), role is Role.AUTHORITY
    builder = x509.CertificateBuilder(_subject("authority", Role.AUTHORITY), subject, key.public_key())
    builder = builder.serial_number(1 + int.from_bytes(drbg("serial", name)(8), "big"))
    builder = builder.not_valid_before(VALID[0]).not_valid_after(VALID[1])
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
    if not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    signed = builder.sign(issuer, SHA256(), ecdsa_deterministic=True)
    return Certificate.from_der(signed.public_bytes(serialization.Encoding.DER))
