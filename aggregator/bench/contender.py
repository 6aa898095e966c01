"""A client's way to the server, as the benchmark has it: bytes are counted, the start is awaited, some vanish."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from aggregator.local.counting import CountingTransport
from aggregator.wire.codec import encode
from aggregator.wire.messages import UploadMessage, UploadReceipt
from clients.transport import Transport


class Vanished(Exception):
    """This client drops its lines, as planned."""


@dataclass(slots=True)
class Contender:
    """One client in the race.

    Args:
        line_up: says that this client stands ready, and waits until all may start.
        vanishes: whether it leaves half-way.
    """

    line_up: Callable[[], Awaitable[None]]
    vanishes: bool
    sent_bytes: int = 0


class RacingTransport(CountingTransport):
    """A participant's transport for one contender."""

    def __init__(self, inner: Transport, contender: Contender) -> None:
        super().__init__(inner, contender)
        self._contender = contender

    async def upload(self, parts: Iterable[UploadMessage]) -> UploadReceipt:
        """Send one upload, counted before the start, so that the race is over the sending alone."""
        return await race(self._contender, tuple(parts), self._inner.upload)


async def race(
    contender: Contender,
    parts: Sequence[UploadMessage],
    send: Callable[[Iterable[UploadMessage]], Awaitable[UploadReceipt]],
) -> UploadReceipt:
    """Count what will leave, wait for the start, then send.

    Raises:
        Vanished: half of it has left, and that was all.
    """
    contender.sent_bytes += sum(len(encode(part)) for part in parts)
    await contender.line_up()
    return await send(_half(parts) if contender.vanishes else parts)


def _half(parts: Sequence[UploadMessage]) -> Iterator[UploadMessage]:
    """The header and half of the chunks; what they raise ends the call."""
    yield from parts[: 1 + (len(parts) - 1) // 2]
    raise Vanished
