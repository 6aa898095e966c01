"""Signing requests, as sites send them to their consortium."""

import base64
from collections.abc import Iterator
from typing import Final

from aggregator.crypto.certificates import Role
from aggregator.crypto.request import SigningRequest, check_hosts, key_fingerprint, sign_request
from aggregator.errors import ParameterError
from tests.consortium import Consortium
from tests.fuzz.target import Target


def run(data: bytes) -> None:
    """The first byte says whether the rest is a file, or DER that is wrapped as PEM here."""
    how, data = data[:1], data[1:]
    if how == b"\0":
        body = base64.encodebytes(data)
        data = b"-----BEGIN CERTIFICATE REQUEST-----\n" + body + b"-----END CERTIFICATE REQUEST-----\n"
    try:
        asked = SigningRequest.from_pem(data)
        check_hosts(asked.role, asked.hosts)
    except ParameterError:
        return
    assert all(host.isprintable() for host in asked.hosts)
    assert len(key_fingerprint(asked.verifying_key)) == 64


def seeds() -> Iterator[bytes]:
    """Of a participant, and of an aggregator with hosts of each kind."""
    (key,) = Consortium.of(1).signing_keys
    hosts = ("hub.example.org", "10.0.0.5", "::1")
    for role, names in ((Role.PARTICIPANT, ()), (Role.AGGREGATOR, hosts)):
        pem = sign_request(key, "delhi", role, "demo", names)
        yield b"\1" + pem
        yield b"\0" + base64.b64decode(b"".join(pem.splitlines()[1:-1]))


TARGET: Final = Target("requests", run, seeds, share=120)
