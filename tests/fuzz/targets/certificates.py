"""Certificates as TLS, rosters and messages bring them, in DER and in PEM."""

import base64
from collections.abc import Iterator
from typing import Final

from aggregator.crypto.certificates import Certificate
from aggregator.crypto.request import hosts_of
from aggregator.errors import NotAdmitted
from tests.consortium import Consortium
from tests.fuzz.target import Target
from tests.parties import identity


def run(data: bytes) -> None:
    """The first byte says how the rest comes: as DER, as PEM, or as DER that is wrapped as PEM here."""
    how, data = data[:1], data[1:]
    wrapped = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(data) + b"-----END CERTIFICATE-----\n"
    try:
        if how == b"\0":
            found = Certificate.from_der(data)
        else:
            found = Certificate.from_pem(data if how == b"\1" else wrapped)
        hosts_of(found)
    except NotAdmitted:
        return
    assert Certificate.from_pem(found.pem) == found
    found.issued_by(Consortium.of(1).authority.certificate)
    assert not found.issued_by(found) or found.role == "authority"


def seeds() -> Iterator[bytes]:
    """Of an authority, a participant, and the parties."""
    consortium = Consortium.of(1)
    for one in (consortium.authority.certificate, *consortium.roster.certificates, *map(_party, (-1, -2))):
        yield b"\0" + one.der
        yield b"\1" + one.pem
        yield b"\2" + one.der


def _party(number: int) -> Certificate:
    return identity(number).certificate


TARGET: Final = Target("certificates", run, seeds, share=120)
