"""All targets by name, in the order in which they run. A decoder that reads what others write belongs here."""

from typing import Final

from tests.fuzz.target import Target
from tests.fuzz.targets import (
    arrays,
    certificates,
    chunks,
    ciphertexts,
    ckks,
    contributions,
    custodians,
    files,
    frames,
    gateway,
    identities,
    ledgers,
    participants,
    requests,
    results,
    revocations,
    rosters,
    seal,
    settings,
    tasks,
    terms,
    wire,
)

_ALL: Final = (
    wire,
    chunks,
    terms,
    tasks,
    participants,
    contributions,
    ciphertexts,
    seal,
    ckks,
    results,
    rosters,
    certificates,
    requests,
    identities,
    ledgers,
    revocations,
    custodians,
    files,
    arrays,
    settings,
    gateway,
    frames,
)

TARGETS: Final[dict[str, Target]] = {module.TARGET.name: module.TARGET for module in _ALL}
