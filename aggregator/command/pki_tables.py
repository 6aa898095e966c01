"""What `sangam pki list` and `sangam pki show` print."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aggregator.crypto import pem as pems
from aggregator.crypto import roster as rosters
from aggregator.crypto.certificates import Certificate, Role, stamp
from aggregator.crypto.identity import read_chain
from aggregator.crypto.ledger import Ledger, Revoked, State
from aggregator.crypto.request import SigningRequest, hosts_of, key_fingerprint
from aggregator.errors import ParameterError

_STYLES = {State.VALID: "green", State.EXPIRED: "yellow", State.REPLACED: "dim", State.REVOKED: "red"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One certificate in the consortium's list; days are whole ones left, negative once it has ended."""

    certificate: Certificate
    state: State
    expires_in_days: int
    revoked: Revoked | None


def entries(ledger: Ledger, now: datetime, expiring: int | None) -> list[Entry]:
    """The ledger by name, then by age; with `expiring`, only those in use that end within so many days."""
    found = [
        Entry(one, state, (one.not_after - now) // timedelta(days=1), ledger.revocations.get(one.serial))
        for one, state in sorted(ledger.states(now), key=lambda pair: pair[0].name)
    ]
    if expiring is None:
        return found
    in_use = (State.VALID, State.EXPIRED)
    last = now + timedelta(days=expiring)
    return [entry for entry in found if entry.state in in_use and entry.certificate.not_after <= last]


def as_json(found: Sequence[Entry]) -> str:
    """One JSON array on one line."""
    return json.dumps([_fields(entry) for entry in found])


def show_entries(found: Sequence[Entry]) -> None:
    """A table on stdout; serials whole, since they are typed into `revoke`."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("name", overflow="fold")
    table.add_column("role")
    table.add_column("expires in days", justify="right")
    table.add_column("serial", overflow="fold")
    table.add_column("state", overflow="fold")
    for entry in found:
        one, state = entry.certificate, f"[{_STYLES[entry.state]}]{entry.state}[/]"
        if entry.revoked:
            state += f" {entry.revoked.at:%Y-%m-%d}: {escape(entry.revoked.reason)}"
        table.add_row(one.name, one.role, str(entry.expires_in_days), f"{one.serial:#x}", state)
    Console().print(table, highlight=False)


def describe(data: bytes) -> Iterator[str]:
    """The lines that tell what is in a file.

    Raises:
        ParameterError: none of our files.
        NotAdmitted, MessageError: one of ours, but damaged.
    """
    labels = pems.labels(data)
    if data.lstrip()[:1] == b"{":
        yield from _roster(rosters.from_bytes(data))
    elif labels == [pems.REQUEST]:
        yield from _request(SigningRequest.from_pem(data))
    elif labels == [pems.CERTIFICATE]:
        yield from _certificate(Certificate.from_pem(data))
    elif labels == [pems.CERTIFICATE, pems.CERTIFICATE]:
        yield from _identity(*read_chain(data))
    else:
        raise ParameterError(f"nothing to show: this is {pems.what_it_is(data)}")


def _fields(entry: Entry) -> dict[str, object]:
    one = entry.certificate
    return {
        "name": one.name,
        "role": one.role.value,
        "serial": f"{one.serial:#x}",
        "not_before": one.not_before.isoformat(),
        "not_after": one.not_after.isoformat(),
        "expires_in_days": entry.expires_in_days,
        "state": entry.state.value,
        "revoked_at": entry.revoked.at.isoformat() if entry.revoked else None,
        "reason": entry.revoked.reason if entry.revoked else None,
    }


def _request(asked: SigningRequest) -> Iterator[str]:
    yield f"a signing request: {asked.name}, {asked.role} of {asked.deployment}"
    yield from _hosts(asked.hosts)
    yield f"  key {key_fingerprint(asked.verifying_key)}"


def _identity(certificate: Certificate, authority: Certificate) -> Iterator[str]:
    yield "an identity"
    yield from _certificate(certificate)
    yield f"issued by the authority below: {'yes' if certificate.issued_by(authority) else 'NO'}"
    yield from _certificate(authority)


def _certificate(one: Certificate) -> Iterator[str]:
    what = "an authority" if one.role is Role.AUTHORITY else f"a certificate: {one.name}, {one.role}"
    yield f"{what} of {one.deployment}"
    yield from _hosts(hosts_of(one))
    yield f"  from {stamp(one.not_before)} until {stamp(one.not_after)}"
    yield f"  serial {one.serial:#x}"
    yield f"  key {key_fingerprint(one.verifying_key)}"
    yield f"  fingerprint {one.fingerprint.hex()}"


def _roster(roster: rosters.Roster) -> Iterator[str]:
    yield f"a roster of {roster.deployment}: version {roster.version}, {len(roster)} participants"
    yield f"  root {roster.root.hex()}"
    for client, one in enumerate(roster.certificates):
        yield f"  {client:>4}  {one.name}, until {stamp(one.not_after)}, serial {one.serial:#x}"


def _hosts(hosts: Sequence[str]) -> Iterator[str]:
    if hosts:
        yield f"  hosts {', '.join(hosts)}"
