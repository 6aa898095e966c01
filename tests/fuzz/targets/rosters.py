"""Signed rosters: read or refused, never verified once a byte that counts differs, and the same once written again."""

from collections.abc import Iterator
from typing import Final

from aggregator.crypto import roster as rosters
from aggregator.errors import MessageError, NotAdmitted, ParameterError
from tests.consortium import Consortium
from tests.fuzz.target import Target
from tests.harness import NOW


def run(data: bytes) -> None:
    """The file, or the field of a message, as it comes."""
    try:
        roster = rosters.from_bytes(data)
    except (MessageError, NotAdmitted, ParameterError):
        return
    assert rosters.from_bytes(roster.to_bytes()) == roster
    try:
        roster.verify(Consortium.of(2).authority.certificate, NOW)
    except NotAdmitted:
        return
    assert any(roster.root == Consortium.of(n).roster.root for n in range(4))


def seeds() -> Iterator[bytes]:
    """Rosters of nobody to three."""
    yield from (Consortium.of(n).roster.to_bytes() for n in range(4))


TARGET: Final = Target("rosters", run, seeds, share=60)
