"""A throw-away consortium in one directory: the authority, the aggregator, an operator and the sites.

directory/authority            the consortium's key and roster
directory/aggregator           who serves        directory/operator      who starts the rounds
directory/hospital-01 ...      a site's key, its identity, its journal, its log
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from aggregator import consortium, enrolment
from aggregator.crypto.certificates import Role

DEPLOYMENT = "local"
HOST = "127.0.0.1"
LIFETIME = timedelta(days=1)
AUTHORITY_LIFETIME = timedelta(days=2)


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
        return self.directory / "authority" / consortium.ROSTER_FILE

    def site(self, index: int) -> Path:
        """One site's own directory."""
        return self.directory / self.sites[index]


def site_names(kind: str, count: int) -> tuple[str, ...]:
    """hospital-01, hospital-02, ..., in the roster's order."""
    width = max(2, len(str(count)))
    return tuple(f"{kind}-{number:0{width}}" for number in range(1, count + 1))


def found(directory: Path, sites: Sequence[str], now: datetime) -> Consortium:
    """Make the authority and certify everybody, as `sangam pki init`, `request`, `issue` and `install` do."""
    authority = directory / "authority"
    consortium.initialise(authority, DEPLOYMENT, now, AUTHORITY_LIFETIME)
    _admit(authority, directory / "aggregator", Role.AGGREGATOR, now, (HOST,))
    _admit(authority, directory / "operator", Role.OPERATOR, now)
    for name in sites:
        _admit(authority, directory / name, Role.PARTICIPANT, now)
    return Consortium(directory, tuple(sites))


def _admit(authority: Path, out: Path, role: Role, now: datetime, hosts: Sequence[str] = ()) -> None:
    request = enrolment.request_identity(out, out.name, role, DEPLOYMENT, hosts)
    file = authority / f"{out.name}.pem"
    consortium.issue_identity(request, authority, file, now, valid_for=LIFETIME, role=role, hosts=hosts)
    enrolment.install_identity(file, out, now)
