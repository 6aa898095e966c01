"""Custodians' files, which travel in pockets: two are read, and if they are sound, the safe is tried with them."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from aggregator.crypto import custody
from aggregator.crypto.custody import CustodianFile
from aggregator.errors import MessageError, NotAdmitted, ParameterError
from tests.consortium import drbg
from tests.fuzz.target import Target

SPLIT: Final = 0xFF  # no byte of JSON in UTF-8


def run(data: bytes) -> None:
    """The first byte says whether checksums are made to fit, as a forger would; then one or two files."""
    files = []
    for number, part in enumerate(data[1:].split(bytes([SPLIT]))[:3]):
        with suppress(MessageError):
            files.append(CustodianFile.from_bytes(_forged(part) if data[:1] == b"\1" else part, f"file {number}"))
    for one in files:
        assert CustodianFile.from_bytes(one.to_bytes(), "again") == one
    with suppress(MessageError, NotAdmitted, ParameterError):
        custody.combine(files)


def _forged(data: bytes) -> bytes:
    """The same with the checksum that its fields have, where they have one."""
    try:
        content: Any = json.loads(data)
        fields = (content["key"], content["index"], content["threshold"], content["custodians"])
        made = CustodianFile(*fields, custody.base64.b64decode(content["share"], validate=True))
        return json.dumps(content | {"checksum": made._checksum()}).encode()
    except (ValueError, TypeError, KeyError, RecursionError, ParameterError):
        return data


def seeds() -> Iterator[bytes]:
    """One file, two that open the safe, two of different keys."""
    ours, theirs = (custody.split(2, 3, drbg("custody", which)) for which in "ab")
    files = [one.to_bytes() for one in (*ours, theirs[0], replace(ours[1], index=1))]
    for forged in (b"\0", b"\1"):
        yield forged + files[0]
        for other in files[1:]:
            yield forged + files[0] + bytes([SPLIT]) + other


TARGET: Final = Target("custodians", run, seeds, share=80)
