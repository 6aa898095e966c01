"""The consortium's ledger: what its authority has certified, revoked and signed, one JSON line each, oldest first.

    {"event": "roster", "version": 1, "root": ...}                    written before that version is signed
    {"event": "issued", "name": "aiims-delhi", "serial": ...}         written before the certificate leaves
    {"event": "revoked", "serial": ..., "at": ..., "reason": ...}

The ledger is the truth: the roster's members and the list of revoked serials follow from it, so that a crash between
the files is mended by writing them again (aggregator.consortium).
"""

import base64
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self, TypeAlias

from aggregator.crypto.certificates import Certificate, Role
from aggregator.crypto.identity import encode_key
from aggregator.crypto.signing import VerifyingKey
from aggregator.errors import MessageError, NotAdmitted, ParameterError

REASON_CHARACTERS_MAX = 200

_NOT_IN_A_LINE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # controls, lone surrogates, line and paragraph separators


class State(StrEnum):
    """What has become of a certificate; the first that fits."""

    REVOKED = "revoked"
    REPLACED = "replaced"
    EXPIRED = "expired"
    VALID = "valid"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that the authority made."""

    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Revoked:
    """A certificate that no longer counts, since when (UTC, whole seconds), and why."""

    serial: int
    at: datetime
    reason: str

    def __post_init__(self) -> None:
        breaks = _NOT_IN_A_LINE.intersection(map(unicodedata.category, self.reason))
        if breaks or not self.reason.strip() or len(self.reason) > REASON_CHARACTERS_MAX:
            raise ParameterError(f"say why, in one line of at most {REASON_CHARACTERS_MAX} characters")


@dataclass(frozen=True, slots=True)
class Signed:
    """A version of the roster that may have been signed: never sign another under the same number."""

    version: int
    root: bytes


Event: TypeAlias = Issued | Revoked | Signed


@dataclass(frozen=True, slots=True)
class Ledger:
    """All events so far, and what follows from them: certificates, oldest first; revocations by serial; the version."""

    events: tuple[Event, ...] = field(repr=False)
    certificates: tuple[Certificate, ...] = field(init=False, repr=False)
    revocations: Mapping[int, Revoked] = field(init=False, repr=False)
    version: int = field(init=False)

    def __post_init__(self) -> None:
        issued = tuple(event.certificate for event in self.events if isinstance(event, Issued))
        revoked = {event.serial: event for event in self.events if isinstance(event, Revoked)}
        versions = (event.version for event in self.events if isinstance(event, Signed))
        object.__setattr__(self, "certificates", issued)
        object.__setattr__(self, "revocations", revoked)
        object.__setattr__(self, "version", max(versions, default=0))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a ledger; a last line that a crash cut short is passed over, since nothing was built on it.

        Raises:
            MessageError: any other line is not as `encode` writes it.
        """
        *lines, _cut_short = data.split(b"\n")
        return cls(tuple(_decode(number, line) for number, line in enumerate(lines, start=1)))

    def named(self, name: str) -> tuple[Certificate, ...]:
        """All certificates under that name, oldest first."""
        return tuple(certificate for certificate in self.certificates if certificate.name == name)

    def of_key(self, key: VerifyingKey) -> tuple[Certificate, ...]:
        """All certificates of that key, oldest first."""
        wanted = encode_key(key)
        return tuple(found for found in self.certificates if encode_key(found.verifying_key) == wanted)

    def holders(self) -> dict[str, Certificate]:
        """Who goes under each name: the newest of its certificates that is not revoked."""
        return {one.name: one for one in self.certificates if one.serial not in self.revocations}

    def members(self) -> tuple[Certificate, ...]:
        """The participants among the holders, in the roster's order."""
        holders = sorted(self.holders().items())
        return tuple(certificate for _, certificate in holders if certificate.role is Role.PARTICIPANT)

    def states(self, now: datetime) -> tuple[tuple[Certificate, State], ...]:
        """Every certificate with its state, oldest first."""
        holders = self.holders()
        return tuple((one, self._state(one, holders, now)) for one in self.certificates)

    def _state(self, one: Certificate, holders: Mapping[str, Certificate], now: datetime) -> State:
        if one.serial in self.revocations:
            return State.REVOKED
        if holders[one.name].serial != one.serial:
            return State.REPLACED
        return State.EXPIRED if now > one.not_after else State.VALID


def encode(event: Event) -> bytes:
    """One line of the ledger."""
    return json.dumps(_fields(event)).encode() + b"\n"


def _fields(event: Event) -> dict[str, Any]:
    match event:
        case Issued(certificate):
            return {
                "event": "issued",
                "name": certificate.name,
                "role": certificate.role.value,
                "serial": f"{certificate.serial:#x}",
                "not_before": certificate.not_before.isoformat(),
                "not_after": certificate.not_after.isoformat(),
                "certificate": base64.b64encode(certificate.der).decode(),
            }
        case Revoked(serial, at, reason):
            at = at.astimezone(UTC).replace(microsecond=0)
            return {"event": "revoked", "serial": f"{serial:#x}", "at": at.isoformat(), "reason": reason}
        case Signed(version, root):
            return {"event": "roster", "version": version, "root": root.hex()}


def _decode(number: int, line: bytes) -> Event:
    """The event in a line; a line that would be written otherwise has been damaged or edited."""
    try:
        event = _event(json.loads(line))
        exact = encode(event) == line + b"\n"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, NotAdmitted, ParameterError):
        exact = False
    except OverflowError:  # the year 1 may be the year 0 in UTC
        exact = False
    if not exact:
        raise MessageError(f"ledger: line {number} is damaged; restore the consortium's directory from its backup")
    return event


def _event(fields: dict[str, Any]) -> Event:
    match fields["event"]:
        case "issued":
            return Issued(Certificate.from_der(base64.b64decode(fields["certificate"], validate=True)))
        case "revoked":
            return Revoked(int(fields["serial"], 16), datetime.fromisoformat(fields["at"]), fields["reason"])
        case "roster":
            return Signed(int(fields["version"]), bytes.fromhex(fields["root"]))
        case other:
            raise ValueError(f"unknown event {other}")
