import asyncio

import pytest

from aggregator.bench.contender import Contender, Vanished, race
from aggregator.wire.codec import encode
from aggregator.wire.messages import Chunk, UploadHeader, UploadMessage, UploadReceipt

PARTS = (
    UploadMessage(UploadHeader("bench", 1, 40, (), bytes(16))),
    *(UploadMessage(Chunk(i, bytes(10))) for i in range(4)),
)
RECEIPT = UploadReceipt(already_accepted=False)


class Line:
    """A start line, and what was sent over it."""

    def __init__(self, *, vanishes: bool) -> None:
        self.go = asyncio.Event()
        self.ready = asyncio.Event()
        self.sent: list[UploadMessage] = []
        self.contender = Contender(self.wait, vanishes)

    async def wait(self) -> None:
        self.ready.set()
        await self.go.wait()

    async def send(self, parts) -> UploadReceipt:
        for part in parts:
            self.sent.append(part)
        return RECEIPT


async def test_nothing_leaves_before_the_signal_but_all_is_counted() -> None:
    line = Line(vanishes=False)
    racing = asyncio.create_task(race(line.contender, PARTS, line.send))
    await line.ready.wait()
    assert line.sent == []
    assert line.contender.sent_bytes == sum(len(encode(part)) for part in PARTS)
    line.go.set()
    assert await racing == RECEIPT
    assert line.sent == list(PARTS)


async def test_who_vanishes_has_sent_half() -> None:
    line = Line(vanishes=True)
    line.go.set()
    with pytest.raises(Vanished):
        await race(line.contender, PARTS, line.send)
    assert line.sent == list(PARTS[:3])
