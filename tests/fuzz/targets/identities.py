"""What a consortium hands over to a site, and a site's own key: PEM files that somebody may have mixed up."""

import base64
from collections.abc import Iterator
from typing import Final

from aggregator.crypto.identity import Identity, dump_key, load_key, read_chain, write_chain
from aggregator.errors import NotAdmitted
from tests.consortium import Consortium
from tests.fuzz.target import Target


def run(data: bytes) -> None:
    """The first byte says whether the rest is a key's file, a key's DER, or the public file beside a good key."""
    how, data = data[:1], data[1:]
    try:
        if how == b"\0":
            _identity(data)
        else:
            pem = b"-----BEGIN " + b"PRIVATE KEY-----\n" + base64.encodebytes(data) + b"-----END PRIVATE KEY-----\n"
            key = load_key(data if how == b"\1" else pem)
            assert load_key(dump_key(key)).private_numbers() == key.private_numbers()
    except NotAdmitted:
        return


def _identity(data: bytes) -> None:
    certificate, authority = read_chain(data)
    assert read_chain(write_chain(certificate, authority)) == (certificate, authority)
    found = Identity(certificate, Consortium.of(1).identities[0].key_pem, authority)
    assert found.certificate.issued_by(authority)


def seeds() -> Iterator[bytes]:
    """A site's two files."""
    (mine,) = Consortium.of(1).identities
    yield b"\0" + write_chain(mine.certificate, mine.authority)
    yield b"\1" + mine.key_pem
    yield b"\2" + base64.b64decode(b"".join(mine.key_pem.splitlines()[1:-1]))


TARGET: Final = Target("identities", run, seeds, share=80)
