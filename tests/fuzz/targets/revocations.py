"""The list of revoked serials, which an operator may edit by hand."""

from collections.abc import Iterator
from typing import Final

from aggregator.crypto.revocation import read_revoked, write_revoked
from aggregator.errors import StorageError
from tests.fuzz.lying import lying
from tests.fuzz.target import Target
from tests.harness import NOW


def run(data: bytes) -> None:
    """The file as it lies there."""
    try:
        serials = _read(data)
    except StorageError:
        return
    assert all(0 <= serial < 2**167 for serial in serials)
    assert _read(write_revoked((f"site-{i}", serial, NOW) for i, serial in enumerate(sorted(serials)))) == serials


def _read(data: bytes) -> frozenset[int]:
    with lying(data) as path:
        return read_revoked(path)


def seeds() -> Iterator[bytes]:
    """As we write it, and as people may."""
    yield write_revoked([("delhi", 2**150 + 1, NOW), ("pune", 7, NOW)])
    yield b"# none\n\n 12 # delhi\r\n0X1f\n"


TARGET: Final = Target("revocations", run, seeds, share=40)
