from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from aggregator.local.counting import CountingTransport
from aggregator.wire.codec import encode
from aggregator.wire.messages import (
    Chunk,
    ClientMessage,
    ResultRequest,
    UploadHeader,
    UploadMessage,
    UploadReceipt,
    Withdrawal,
)

PARTS = [
    UploadMessage(UploadHeader("sepsis", 1, 20, (), bytes(16))),
    *(UploadMessage(Chunk(i, bytes(10))) for i in range(2)),
]
LEAVES = ClientMessage(1, Withdrawal("the model is not ours"))
REQUEST = ResultRequest("sepsis", 1)


class Way:
    """A transport that takes what comes, one chunk of an upload, and answers nothing else."""

    def __init__(self):
        self.taken = []

    @asynccontextmanager
    async def control(self):
        yield self

    async def send(self, message):
        self.taken.append(message)

    async def receive(self):
        return LEAVES

    async def upload(self, parts):
        parts = iter(parts)
        self.taken += [next(parts), next(parts)]
        return UploadReceipt(already_accepted=False)

    def fetch_result(self, request):
        self.taken.append(request)
        return ()


async def test_what_leaves_is_counted_whatever_it_is_and_nothing_else():
    way, sender = Way(), SimpleNamespace(sent_bytes=0)
    transport = CountingTransport(way, sender)
    async with transport.control() as stream:
        await stream.send(LEAVES)
        assert await stream.receive() == LEAVES
    await transport.upload(PARTS)
    transport.fetch_result(REQUEST)
    assert way.taken == [LEAVES, *PARTS[:2], REQUEST]
    assert sender.sent_bytes == sum(len(encode(message)) for message in way.taken)


async def test_what_the_parts_of_an_upload_raise_ends_the_call():
    def parts():
        yield PARTS[0]
        raise KeyError

    sender = SimpleNamespace(sent_bytes=0)
    with pytest.raises(KeyError):
        await CountingTransport(Way(), sender).upload(parts())
    assert sender.sent_bytes == len(encode(PARTS[0]))
