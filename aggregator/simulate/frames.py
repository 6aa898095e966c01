"""What the server and a process of clients say to each other over a pipe: to whom or from whom, and messages.

    server --> process   one message of the server to one client; or, to nobody, "begin" and "end" of a round
    server <-- process   that client's answer: one message, or all of an upload; less than whole when it vanished

Messages are the very bytes that would travel over the network.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from aggregator.errors import MessageError

NOBODY = 2**32 - 1

_HEAD = struct.Struct(">I?H")  # client, whole, number of parts
_SIZE = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Frame:
    """Messages to or from one client.

    Args:
        client: its number; NOBODY for a word to the process itself.
        parts: messages, encoded.
        whole: whether the client said all that it had to say.
    """

    client: int
    parts: Sequence[bytes] = field(repr=False)
    whole: bool = True

    def to_bytes(self) -> bytes:
        """As it goes through the pipe."""
        sized = (piece for part in self.parts for piece in (_SIZE.pack(len(part)), part))
        return b"".join((_HEAD.pack(self.client, self.whole, len(self.parts)), *sized))

    @staticmethod
    def from_bytes(data: bytes) -> "Frame":
        """Read one.

        Raises:
            MessageError: it is cut short, or has surplus bytes.
        """
        try:
            client, whole, count = _HEAD.unpack_from(data)
            parts, at = [], _HEAD.size
            for _ in range(count):
                (size,) = _SIZE.unpack_from(data, at)
                at += _SIZE.size + size
                parts.append(data[at - size : at])
        except struct.error:
            raise MessageError(f"a frame of {len(data)} bytes is cut short") from None
        if at != len(data):
            raise MessageError(f"a frame has {len(data)} bytes, its parts end at {at}")
        return Frame(client, tuple(parts), whole)
