"""JSON that a platform posts to the gateway, for every method of the operator's service."""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import json_format

from aggregator.errors import MessageError
from aggregator.gateway.api import SERVICE, _generated, _json, _ours, _parse
from aggregator.wire import codec
from tests.fuzz.target import Target
from tests.messages import smallest

METHODS: Final[list[Any]] = list(SERVICE.methods)


def run(data: bytes) -> None:
    """The first byte says which method; the rest is the body."""
    method = METHODS[data[0] % len(METHODS)] if data else METHODS[0]
    try:
        value = _parse(method, data[1:])
    except MessageError:
        return
    again = _parse(method, _json(value).encode())
    assert again == value


def seeds() -> Iterator[bytes]:
    """The smallest body of each."""
    for number, method in enumerate(METHODS):
        for value in smallest(_ours(method.input_type)):
            message = _generated(method.input_type.name).FromString(codec.encode(value))
            yield bytes([number]) + json_format.MessageToJson(message, indent=None).encode()


TARGET: Final = Target("gateway", run, seeds, bytes_max=8192, share=60)
