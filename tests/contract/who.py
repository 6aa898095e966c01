"""Who a participant is, and which rounds it takes part in; from docs/contract.md alone."""

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from tests.contract.encoding import Numbers
from tests.contract.memory import Memory, insist
from tests.reference import merkle
from tests.reference.digest import digest, encode

ECDSA = ec.ECDSA(SHA256())


@dataclass(frozen=True)
class Who:
    """A site's key, its certificate and its authority's, what it remembers, and what it insists on."""

    key_pem: bytes
    certificate_pem: bytes
    authority_pem: bytes
    memory: Memory = field(repr=False)
    minimum_cohort: int
    corrupt_fraction: float = 0.1
    security_bits: int = 104

    @classmethod
    def load(cls, directory: Path, minimum_cohort: int, **weakest: Any) -> "Who":
        own, authority = x509.load_pem_x509_certificates((directory / "identity.pem").read_bytes())
        pems = (each.public_bytes(serialization.Encoding.PEM) for each in (own, authority))
        memory = Memory(directory / "memory.jsonl")
        return cls((directory / "key.pem").read_bytes(), *pems, memory, minimum_cohort, **weakest)

    @property
    def key(self) -> Any:
        return serialization.load_pem_private_key(self.key_pem, password=None)

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate_pem)

    @property
    def authority(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.authority_pem)

    def sign(self, domain: str, *fields: object) -> bytes:
        r, s = decode_dss_signature(self.key.sign(encode(f"sangam/v1/{domain}", *fields), ECDSA))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def signed(key: Any, signature: bytes, domain: str, *fields: object) -> bool:
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), encode(f"sangam/v1/{domain}", *fields), ECDSA)
    except InvalidSignature:
        return False
    return len(signature) == 64


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def read_roster(data: bytes, who: Who, terms: Any) -> list[x509.Certificate]:
    """The roster's certificates in order, once its signature and all of theirs hold; a client id is a place in it."""
    content = json.loads(data)
    encoded = [base64.b64decode(text) for text in content["certificates"]]
    root, signature = merkle.root(encoded), base64.b64decode(content["signature"])
    about = content["deployment"], content["version"], root
    insist(signed(who.authority.public_key(), signature, "roster", *about), "the authority did not sign this roster")
    insist(terms.deployment == content["deployment"], "another deployment")
    insist((terms.roster_size, terms.roster_root) == (len(encoded), root), "the terms name another roster")
    insist(terms.authority_hash == sha256(der(who.authority)).digest(), "the terms name another authority")
    certificates = [x509.load_der_x509_certificate(item) for item in encoded]
    for certificate in certificates:
        certificate.verify_directly_issued_by(who.authority)
    who.memory.roster(*about)
    return certificates


def accept(terms: Any, who: Who) -> None:
    """The round protects as much as this site demands, and is of the task that it knows under this name."""
    insist(who.authority.not_valid_after_utc > datetime.now(UTC), "the authority has expired")
    parameters, threat = terms.parameters, terms.parameters.threat
    insist(terms.protocol_version == 1, "another version of the protocol")
    insist(parameters.mode in ("pairwise", "lattice"), "another mode")
    insist(threat.malicious and threat.corrupt_fraction >= who.corrupt_fraction, "a weaker threat model")
    insist(threat.security_bits >= who.security_bits, "a weaker threat model")
    least = max(who.minimum_cohort, parameters.minimum_cohort)
    insist(least <= min(terms.roster_size, parameters.clients_max), "a sum over fewer than this site accepts")
    pinned = digest("parameters", *Numbers(parameters).fields())
    who.memory.same("parameters", terms.deployment, terms.task, value=pinned)
    answered = who.memory.knows("answered", terms.deployment, terms.task, terms.model_hash.hex())
    insist(not answered, "this site has contributed on this model of the task")


def name_of(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
