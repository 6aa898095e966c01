"""Every message that crosses the network, either way: refused with MessageError, or the same after a way through us."""

from collections.abc import Iterator
from typing import Any, Final

from aggregator.errors import MessageError
from aggregator.service.app import INBOUND
from aggregator.wire import ckks_messages, codec, messages, operator_messages
from tests.fuzz.target import Target
from tests.harness import short_round
from tests.messages import kinds_in, smallest

KINDS: Final[list[Any]] = [kind for module in (messages, operator_messages, ckks_messages) for kind in kinds_in(module)]
"""Also those that only travel within others: the same readers read them."""


def run(data: bytes) -> None:
    """The first byte says which message the rest is."""
    kind = KINDS[data[0] % len(KINDS)] if data else KINDS[0]
    try:
        value = codec.decode(kind, data[1:])
    except MessageError:
        return
    encoded = codec.encode(value)
    assert codec.decode(kind, encoded) == value
    assert len(encoded) <= codec.bytes_max(kind)


def seeds() -> Iterator[bytes]:
    """The smallest message of every kind, and what was said in a round of two."""
    for number, kind in enumerate(KINDS):
        yield from (bytes([number]) + codec.encode(value) for value in smallest(kind))
    played = short_round(3)
    for said in played.transcript:
        kind = messages.ServerMessage if not said.to_server else messages.ClientMessage
        if isinstance(said.body, messages.UploadHeader | messages.Chunk):
            kind = messages.UploadMessage
        yield bytes([KINDS.index(kind)]) + said.raw


assert set(INBOUND) <= set(KINDS)
TARGET: Final = Target("wire", run, seeds, share=1_200)
