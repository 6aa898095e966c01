"""The consortium's ledger: every line is as it was written, or the ledger is refused."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from aggregator.crypto.ledger import Issued, Ledger, Revoked, Signed, encode
from aggregator.errors import MessageError
from tests.consortium import Consortium
from tests.fuzz.target import Target
from tests.harness import NOW


def run(data: bytes) -> None:
    """The file as it lies there."""
    try:
        ledger = Ledger.from_bytes(data)
    except MessageError:
        return
    whole = data[: data.rfind(b"\n") + 1]
    assert b"".join(map(encode, ledger.events)) == whole
    assert len(ledger.states(NOW)) == len(ledger.certificates)
    assert set(ledger.members()) <= set(ledger.certificates)


def seeds() -> Iterator[bytes]:
    """Events of each kind, alone and together."""
    consortium = Consortium.of(2)
    one, two = consortium.roster.certificates
    events = [
        Signed(0, bytes(32)),
        Issued(one),
        Issued(two),
        Revoked(one.serial, datetime(2026, 3, 1, 12, tzinfo=UTC), "left: the site closes"),
        Signed(1, consortium.roster.root),
    ]
    yield b"".join(map(encode, events))
    yield b"".join(map(encode, events)) + b'{"event": "iss'
    yield from map(encode, events)


TARGET: Final = Target("ledgers", run, seeds, share=60)
