"""Any file that somebody has `sangam pki show` look at."""

from collections.abc import Iterator
from typing import Final

from aggregator.command.pki_tables import describe
from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import write_chain
from aggregator.crypto.request import sign_request
from aggregator.errors import MessageError, NotAdmitted, ParameterError
from tests.consortium import Consortium
from tests.fuzz.target import Target


def run(data: bytes) -> None:
    """The lines that tell what it is can be shown in a terminal."""
    try:
        lines = list(describe(data))
    except (ParameterError, NotAdmitted, MessageError):
        return
    assert lines
    assert all(line.isprintable() for line in lines)


def seeds() -> Iterator[bytes]:
    """One of each kind."""
    consortium = Consortium.of(1)
    (mine,) = consortium.identities
    yield consortium.roster.to_bytes()
    yield mine.certificate.pem
    yield write_chain(mine.certificate, mine.authority)
    yield sign_request(consortium.signing_keys[0], "delhi", Role.PARTICIPANT, "demo", ())
    yield b"-----BEGIN " + b"PRIVATE KEY-----\n"


TARGET: Final = Target("files", run, seeds, share=40)
