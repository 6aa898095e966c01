"""Something whole on its way to the server, sent until it has arrived, and always the same bytes."""

from collections.abc import Iterator
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


async def send_whole(transport: Transport, upload: WholeUpload, patience_s: float) -> None:
    """Send until it has arrived. After a broken line the server says which chunks it holds; the others are sent.

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

    async def send() -> None:
        await transport.upload(chain([UploadMessage(upload.header)], chunks()))

    await patiently(patience_s, progress)(send)
