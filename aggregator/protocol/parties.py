"""Key holder and auditor: the two parties that a homomorphic round needs beside server and clients.

Neither is in the roster. Where a round speaks of its members, each has a number below those of all clients.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aggregator.crypto.canonical import Field
from aggregator.crypto.certificates import Certificate, Role, check_name
from aggregator.errors import NotAdmitted, ParameterError

KEY_HOLDER: Final = -1
AUDITOR: Final = -2
ROLES: Final = {KEY_HOLDER: Role.KEY_HOLDER, AUDITOR: Role.AUDITOR}


def who(member: int) -> str:
    """A member of a round, for sentences."""
    return str(ROLES[member]) if member in ROLES else f"client {member}"


class Audit(StrEnum):
    """What stands between the server and the key holder; each is weaker than the one before.

    FROZEN: clients commit, the auditor freezes the list, then clients upload, and the auditor adds up.
    ONE_SHOT: nothing is frozen: a client may choose its ciphertexts by others', such as their negated sum.
    TRUST_SERVER: there is no auditor: the key holder decrypts what the server says is the sum.
    """

    FROZEN = "frozen"
    ONE_SHOT = "one-shot"
    TRUST_SERVER = "trust-server"


@dataclass(frozen=True, slots=True)
class Parties:
    """Who holds a task's keys and who audits it, by the names in their certificates; part of its parameters.

    Raises:
        ParameterError: a malformed name, one party in both roles, or an auditor too many or too few.
    """

    key_holder: str
    auditor: str = ""
    audit: Audit = Audit.FROZEN

    def __post_init__(self) -> None:
        check_name("key holder", self.key_holder)
        if (self.audit is Audit.TRUST_SERVER) != (not self.auditor):
            said = "an auditor" if self.auditor else "no auditor"
            raise ParameterError(f"{self.audit} and {said}: only {Audit.TRUST_SERVER} goes without one, and takes none")
        if self.auditor:
            check_name("auditor", self.auditor)
        if self.auditor == self.key_holder:
            raise ParameterError(f"{self.key_holder} cannot both hold the key and audit its use")

    @property
    def names(self) -> dict[int, str]:
        """By the number of each that there is."""
        return {KEY_HOLDER: self.key_holder} | ({AUDITOR: self.auditor} if self.auditor else {})

    def number_of(self, certificate: Certificate) -> int:
        """KEY_HOLDER or AUDITOR; NotAdmitted for any other certificate, whatever its name."""
        for number, name in self.names.items():
            if (certificate.name, certificate.role) == (name, ROLES[number]):
                return number
        raise NotAdmitted(f"{certificate.name}, {certificate.role}, is neither this task's key holder nor its auditor")

    def fields(self) -> tuple[Field, ...]:
        """The canonical fields that ctx0 covers."""
        return self.key_holder, self.auditor, str(self.audit)


def check_party(certificate: Certificate, authority: Certificate, parties: Parties, number: int, who: bytes) -> None:
    """Whether this is the party that the round names. Run by whoever relies on its signature.

    Args:
        certificate: as the server shows it.
        authority: that this side trusts.
        parties: the task's.
        number: in which role.
        who: the fingerprint in ctx0.

    Raises:
        NotAdmitted: another certificate, another role or name, or another authority's.
    """
    if certificate.fingerprint != who:
        raise NotAdmitted(f"the certificate of {certificate.name} is not the one that the round names")
    if parties.number_of(certificate) != number:
        raise NotAdmitted(f"{certificate.name} is certified as {certificate.role}, the round needs a {ROLES[number]}")
    if not certificate.issued_by(authority):
        raise NotAdmitted(f"the certificate of {certificate.name} was not issued by this consortium")
