"""Something whole on its way to the server, sent until it has arrived, and always the same bytes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from aggregator.wire.chunks import ChunkPlan
from aggregator.wire.messages import UploadHeader, UploadMessage
from clients.retry import Progress, patiently
from clients.transport import Transport


@dataclass(frozen=True, slots=True, eq=False)
class WholeUpload:
    """A whole input, ready to send, and to send again: the header, the bytes of all chunks, and how they are cut."""

    header: UploadHeader
    payload: memoryview = field(repr=False)
    plan: ChunkPlan


def ignored(*_: int) -> None:
    """Nobody is told."""


async def send_whole(
    transport: Transport, upload: WholeUpload, patience_s: float, sent: Callable[[int, int], None] = ignored
) -> None:
    """Send until it has arrived. After a broken line the server says which chunks it holds; the others are sent.

    Args:
        transport: the way to the server.
        upload: what is sent.
        patience_s: how long a broken line is retried, seconds.
        sent: is told how many chunks have left, and of how many.

    Raises:
        OutOfTurn: the step is over.
        Disconnected: nothing has moved for longer than the patience.
        SangamError: as the server names it.
    """
    progress = Progress()

    def chunks() -> Iterator[UploadMessage]:
        for chunk in upload.plan.cut(upload.payload):
            progress.reached(chunk.index)
            yield UploadMessage(chunk)
            sent(chunk.index + 1, upload.plan.chunks)

    async def send() -> None:
        await transport.upload(chain([UploadMessage(upload.header)], chunks()))

    await patiently(patience_s, progress)(send)
