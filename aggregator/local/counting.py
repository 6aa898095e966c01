"""A participant's transport that counts what leaves, in all messages."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Protocol

from aggregator.wire.codec import encode
from aggregator.wire.messages import (
    ClientMessage,
    ResultMessage,
    ResultRequest,
    ServerMessage,
    UploadMessage,
    UploadReceipt,
)
from clients.transport import ControlStream, Transport


class Sender(Protocol):
    """Whose messages are counted; it may start anew from zero at any time."""

    sent_bytes: int


class CountingTransport:
    """The way to the server as it was, and the bytes of each message, as it leaves, added to the sender's."""

    def __init__(self, inner: Transport, sender: Sender) -> None:
        self._inner = inner
        self._sender = sender

    @asynccontextmanager
    async def control(self) -> AsyncIterator[ControlStream]:
        """Open a control stream."""
        async with self._inner.control() as stream:
            yield _CountingStream(stream, self._sender)

    async def upload(self, parts: Iterable[UploadMessage]) -> UploadReceipt:
        """Send one upload; what its parts raise ends the call, which is how the stream is cut."""
        return await self._inner.upload(self._counted(parts))

    def fetch_result(self, request: ResultRequest) -> AsyncIterator[ResultMessage]:
        """Receive one result."""
        self._sender.sent_bytes += len(encode(request))
        return self._inner.fetch_result(request)

    def _counted(self, parts: Iterable[UploadMessage]) -> Iterator[UploadMessage]:
        for part in parts:
            self._sender.sent_bytes += len(encode(part))
            yield part


class _CountingStream:
    def __init__(self, inner: ControlStream, sender: Sender) -> None:
        self._inner = inner
        self._sender = sender

    async def send(self, message: ClientMessage) -> None:
        self._sender.sent_bytes += len(encode(message))
        await self._inner.send(message)

    async def receive(self) -> ServerMessage:
        return await self._inner.receive()
