"""A throw-away consortium: the authority, the aggregator, an operator, key holder and auditor, and the sites.

directory/roster.json          the signed list of sites
directory/aggregator           who serves        directory/operator      who starts the rounds
directory/key-holder           who holds keys    directory/auditor       who audits, both in homomorphic mode
directory/hospital-01 ...      a site's key, its identity, its journal, its log

The authority's key is forgotten: nobody joins later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from aggregator.consortium import ROSTER_FILE
from aggregator.crypto import authority as authorities
from aggregator.crypto.authority import Authority
from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import Identity
from aggregator.crypto.roster import Roster, sign_roster
from aggregator.files import write_new
from aggregator.protocol.parties import Parties

DEPLOYMENT = "local"
PARTIES = Parties("key-holder", "auditor")
HOST = "127.0.0.1"
LIFETIME = timedelta(days=90)  # of a few weeks a site would warn in its log
AUTHORITY_LIFETIME = timedelta(days=91)


@dataclass(frozen=True, slots=True)
class Members:
    """Everybody, in memory; the sites in the roster's order."""

    aggregator: Identity
    operator: Identity
    parties: tuple[Identity, Identity]
    sites: tuple[Identity, ...]
    roster: Roster = field(repr=False)


@dataclass(frozen=True, slots=True)
class Consortium:
    """Where everybody's files are."""

    directory: Path
    sites: tuple[str, ...]

    @property
    def aggregator(self) -> Path:
        """The aggregator's identity."""
        return self.directory / "aggregator"

    @property
    def operator(self) -> Path:
        """The operator's identity."""
        return self.directory / "operator"

    @property
    def roster(self) -> Path:
        """The signed list of sites."""
        return self.directory / ROSTER_FILE

    def site(self, index: int) -> Path:
        """One site's own directory."""
        return self.directory / self.sites[index]


def site_names(kind: str, count: int) -> tuple[str, ...]:
    """hospital-01, hospital-02, ..., in the roster's order."""
    width = max(2, len(str(count)))
    return tuple(f"{kind}-{number:0{width}}" for number in range(1, count + 1))


def certify(sites: Sequence[str], now: datetime) -> Members:
    """Make an authority and certify everybody; the roster is signed once, at the end."""
    authority = authorities.create_authority(DEPLOYMENT, now, AUTHORITY_LIFETIME)
    aggregator = _issued(authority, "aggregator", Role.AGGREGATOR, now, (HOST,))
    operator = _issued(authority, "operator", Role.OPERATOR, now)
    key_holder = _issued(authority, PARTIES.key_holder, Role.KEY_HOLDER, now)
    auditor = _issued(authority, PARTIES.auditor, Role.AUDITOR, now)
    participants = tuple(_issued(authority, name, Role.PARTICIPANT, now) for name in sites)
    roster = sign_roster(authority, [one.certificate for one in participants], version=1)
    return Members(aggregator, operator, (key_holder, auditor), participants, roster)


def found(directory: Path, sites: Sequence[str], now: datetime) -> Consortium:
    """Certify everybody and write their files.

    Raises:
        StorageError: a file cannot be written.
    """
    members = certify(sites, now)
    for one in (members.aggregator, members.operator, *members.parties, *members.sites):
        one.save(directory / one.certificate.name)
    write_new(directory, {}, {ROSTER_FILE: members.roster.to_bytes()})
    return Consortium(directory, tuple(sites))


def _issued(authority: Authority, name: str, role: Role, now: datetime, hosts: Sequence[str] = ()) -> Identity:
    key_pem, request = authorities.request(name, role, DEPLOYMENT, hosts)
    certificate = authorities.issue(authority, request, now, valid_for=LIFETIME, role=role, hosts=hosts)
    return Identity(certificate, key_pem, authority.certificate)
