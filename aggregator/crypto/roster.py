"""The roster: who may take part, in one order, signed by the authority and numbered.

A client's place in the roster is its ClientId in every round. Signed, because a server that could write the roster
would invent clients; numbered, because a server that shows different rosters to different clients could run two
disjoint cohorts that each look like a majority: clients remember the highest version and its root (clients.journal)
and every round's context holds the root. A new version for every change, even for a renewed certificate.

Source: RFC 6962 (the tree); design of the round's context.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from aggregator.crypto import merkle, signing
from aggregator.crypto.authority import Authority
from aggregator.crypto.certificates import Certificate, Role, check_name
from aggregator.crypto.signing import VerifyingKey
from aggregator.errors import MessageError, NotAdmitted, ParameterError
from aggregator.files import read_file

CERTIFICATES_MAX = 10_000
VERSIONS = 2**63
FILE_BYTES_MAX = 16 * 2**20  # as on the wire; 10,000 certificates take 7 to 10 MB in base64
FORMAT = "sangam-roster/1"

_DOMAIN = "roster"
_TYPES = {"format": str, "deployment": str, "version": int, "certificates": list, "signature": str}


@dataclass(frozen=True, slots=True)
class Roster:
    """Participants ordered by name, each name and each key once; `verify` before any use.

    Raises:
        NotAdmitted: a certificate of another role or deployment, out of order, or a name or key that comes twice.
        ParameterError: a malformed deployment name, too many certificates, or a version out of range.
    """

    deployment: str
    version: int
    certificates: tuple[Certificate, ...] = field(repr=False)
    signature: bytes = field(repr=False)
    root: bytes = field(init=False, repr=False)
    _indices: Mapping[bytes, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.deployment, self.version, self.certificates)
        indices = {certificate.fingerprint: i for i, certificate in enumerate(self.certificates)}
        object.__setattr__(self, "root", root_of(self.certificates))
        object.__setattr__(self, "_indices", indices)

    def __len__(self) -> int:
        return len(self.certificates)

    def index_of(self, fingerprint: bytes) -> int:
        """The ClientId of a certificate, by the SHA-256 of its DER.

        Raises:
            NotAdmitted: it is not in this roster.
        """
        if fingerprint not in self._indices:
            raise NotAdmitted(f"certificate {fingerprint.hex()[:16]} is not in roster version {self.version}")
        return self._indices[fingerprint]

    def name(self, client: int) -> str:
        """The name of a client; NotAdmitted when there is no such id."""
        return self._certificate(client).name

    def verifying_key(self, client: int) -> VerifyingKey:
        """The key that checks a client's signatures; NotAdmitted when there is no such id."""
        return self._certificate(client).verifying_key

    def verify(self, authority: Certificate, now: datetime) -> None:
        """Check the whole roster against the authority that this site trusts. Run by every client and server.

        An expired certificate does not spoil the roster: its holder simply cannot connect.

        Raises:
            NotAdmitted: another deployment, an expired authority, a false signature, or a foreign certificate.
        """
        if authority.deployment != self.deployment:
            raise NotAdmitted(f"a roster of {self.deployment}, the authority is of {authority.deployment}")
        authority.check_valid_at(now)
        fields = (self.deployment, self.version, self.root)
        if not signing.verify(authority.verifying_key, self.signature, _DOMAIN, *fields):
            raise NotAdmitted(f"roster version {self.version} is not signed by this authority")
        for certificate in self.certificates:
            if not certificate.issued_by(authority):
                raise NotAdmitted(f"roster: the certificate of {certificate.name} was not issued by this authority")

    def expired_at(self, now: datetime) -> frozenset[int]:
        """The ClientIds whose certificates have ended by then. Run by clients, since the server is not trusted to."""
        return frozenset(i for i, certificate in enumerate(self.certificates) if certificate.not_after < now)

    def to_bytes(self) -> bytes:
        """One JSON object, certificates as base64 of their DER; `from_bytes` reads it back."""
        content = {
            "format": FORMAT,
            "deployment": self.deployment,
            "version": self.version,
            "certificates": [base64.b64encode(certificate.der).decode() for certificate in self.certificates],
            "signature": base64.b64encode(self.signature).decode(),
        }
        return json.dumps(content, indent=1).encode() + b"\n"

    def _certificate(self, client: int) -> Certificate:
        if not 0 <= client < len(self.certificates):
            raise NotAdmitted(f"client {client} is not in roster version {self.version} of {len(self)} participants")
        return self.certificates[client]


def sign_roster(authority: Authority, certificates: Iterable[Certificate], version: int) -> Roster:
    """Order, check and sign a roster. Run by the consortium; never sign two rosters with one version.

    Raises:
        NotAdmitted, ParameterError: as for `Roster`.
    """
    ordered = tuple(sorted(certificates, key=lambda certificate: certificate.name))
    deployment = authority.certificate.deployment
    _check(deployment, version, ordered)
    signature = signing.sign(authority.signing_key, _DOMAIN, deployment, version, root_of(ordered))
    return Roster(deployment, version, ordered, signature)


def from_bytes(data: bytes) -> Roster:
    """Read a roster's file. Nothing is trusted yet: call `Roster.verify`.

    Raises:
        MessageError: too long, not this format, or a field of the wrong type or size.
        NotAdmitted, ParameterError: as for `Roster` and `Certificate.from_der`.
    """
    deployment, version, encoded, signature_text = _load(data)
    if len(encoded) > CERTIFICATES_MAX:
        raise MessageError(f"roster: more than {CERTIFICATES_MAX} certificates")
    signature = _decode(signature_text)
    if len(signature) != signing.SIGNATURE_BYTES:
        raise MessageError(f"roster: a signature of {len(signature)} bytes, needs {signing.SIGNATURE_BYTES}")
    return Roster(deployment, version, tuple(Certificate.from_der(_decode(text)) for text in encoded), signature)


def load(path: Path, authority: Certificate, now: datetime) -> Roster:
    """Read a roster's file and verify it.

    Raises:
        StorageError: it cannot be read.
        MessageError, NotAdmitted, ParameterError: as `from_bytes` and `Roster.verify`.
    """
    roster = from_bytes(read_file(path))
    roster.verify(authority, now)
    return roster


def _load(data: bytes) -> tuple[str, int, list[object], str]:
    if len(data) > FILE_BYTES_MAX:
        raise MessageError(f"roster: {len(data)} bytes, at most {FILE_BYTES_MAX} are read")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise MessageError("roster: not a JSON file") from None
    if not isinstance(content, dict) or {key: type(value) for key, value in content.items()} != _TYPES:
        raise MessageError(f"roster: needs exactly the fields {', '.join(_TYPES)}")
    if content["format"] != FORMAT:
        raise MessageError(f"roster: the format must be {FORMAT}")
    return content["deployment"], content["version"], content["certificates"], content["signature"]


def _decode(text: object) -> bytes:
    if not isinstance(text, str):
        raise MessageError("roster: a certificate that is not text")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise MessageError("roster: certificates and signature must be base64 text") from None


def root_of(certificates: Sequence[Certificate]) -> bytes:
    """The Merkle root over the certificates' DER, in their order."""
    return merkle.root([certificate.der for certificate in certificates])


def _check(deployment: str, version: int, certificates: tuple[Certificate, ...]) -> None:
    check_name("deployment", deployment)
    if len(certificates) > CERTIFICATES_MAX:
        raise ParameterError(f"roster: {len(certificates)} certificates, at most {CERTIFICATES_MAX}")
    if not 0 <= version < VERSIONS:
        raise ParameterError("roster: the version must lie in [0, 2^63)")
    for certificate in certificates:
        if certificate.role is not Role.PARTICIPANT or certificate.deployment != deployment:
            raise NotAdmitted(f"roster: {certificate.name} is {certificate.role} of {certificate.deployment}")
    for before, after in pairwise(certificates):
        if before.name >= after.name:
            raise NotAdmitted(f"roster: {after.name} comes twice or out of order")
    if len({certificate.verifying_key.public_numbers() for certificate in certificates}) != len(certificates):
        raise NotAdmitted("roster: two participants hold the same key")
