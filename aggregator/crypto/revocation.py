"""The list of revoked certificates, as the consortium writes it and the aggregator reads it: one serial per line.

    # aiims-delhi, revoked 2026-03-01
    0x2f60...

By serial and not by fingerprint: see `Certificate`. The list is not signed; it binds an honest aggregator, as does all
that an aggregator is asked to refuse.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from aggregator.errors import StorageError
from aggregator.files import read_file

_SERIAL = re.compile(r"0[xX][0-9a-fA-F]{1,40}|[0-9]{1,50}")
_HEADER = "# revoked certificates; written by `sangam pki revoke`, read by `sangam serve --revoked`\n"


def read_revoked(path: Path) -> frozenset[int]:
    """Read the serials in a list; what stands behind a # is for people.

    Raises:
        StorageError: it cannot be read, or a line holds anything but one serial number.
    """
    try:
        lines = read_file(path).decode().splitlines()
    except UnicodeDecodeError:
        raise StorageError(f"{path} must hold one serial number per line, as text") from None
    written = [(number, line.partition("#")[0].strip()) for number, line in enumerate(lines, start=1)]
    for number, text in written:
        if text and not _SERIAL.fullmatch(text):
            raise StorageError(
                f"{path}, line {number}: must hold one serial number per line, decimal or 0x hexadecimal"
            )
    return frozenset(int(text, 16 if text[:2] in ("0x", "0X") else 10) for _, text in written if text)


def write_revoked(revoked: Iterable[tuple[str, int, datetime]]) -> bytes:
    """The list's text: name, serial and time of each, in the order given; reasons stay with the consortium."""
    entries = [f"# {name}, revoked {at:%Y-%m-%d}\n{serial:#x}\n" for name, serial, at in revoked]
    return (_HEADER + "".join(entries)).encode()
