"""How messages reach the aggregator: the contract, and gRPC over mutual TLS.

Errors that the server names are raised here under the same name.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final, Protocol, TypeVar

import grpc

from aggregator.crypto.identity import Identity
from aggregator.errors import Disconnected, NotAdmitted, Overloaded, SangamError, by_name
from aggregator.wire import messages
from aggregator.wire.codec import MESSAGE_BYTES_MAX, decode, encode
from aggregator.wire.messages import (
    ERROR_NAME_KEY,
    GO_ON_KEY,
    ClientMessage,
    ResultMessage,
    ResultRequest,
    ServerMessage,
    UploadMessage,
)
from aggregator.wire.vocabulary import sentence

T = TypeVar("T")

# gRPC's own back-off grows to 120 s and would dominate every recovery; 2 s is the most a client waits here.
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
)


class ControlStream(Protocol):
    """An open control stream."""

    async def send(self, message: ClientMessage) -> None:
        """Send one message. Disconnected when the stream is broken."""

    async def receive(self) -> ServerMessage:
        """The next message. Disconnected when the stream ended, or the error that the server named."""


class Transport(Protocol):
    """What a session needs of the way to the server."""

    def control(self) -> AbstractAsyncContextManager[ControlStream]:
        """Open a control stream; it ends with the block."""

    async def upload(self, parts: Iterable[UploadMessage]) -> messages.UploadReceipt:
        """Send one upload."""

    def fetch_result(self, request: ResultRequest) -> AsyncIterator[ResultMessage]:
        """Receive one result."""


class GrpcChannel:
    """A channel to the aggregator that raises our errors."""

    def __init__(self, address: str, identity: Identity) -> None:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=identity.authority.pem,
            private_key=identity.key_pem,
            certificate_chain=identity.certificate.pem,
        )
        self._address = address
        self._channel: Any = grpc.aio.secure_channel(address, credentials, options=OPTIONS)

    async def connect(self) -> None:
        """Connect now, not with the first call."""
        await self._channel.channel_ready()

    async def close(self) -> None:
        """Close the channel and all that runs over it."""
        await self._channel.close()

    async def unary(self, method: str, request: object, response: type[T]) -> T:
        """One request, one response."""
        with self.errors():
            return decode(response, await self._channel.unary_unary(method)(encode(request)))

    async def downward(self, method: str, request: object, response: type[T]) -> AsyncIterator[T]:
        """One request, a stream of responses."""
        with self.errors():
            async for data in self._channel.unary_stream(method)(encode(request)):
                yield decode(response, data)

    async def upward(self, method: str, requests: Iterable[object], response: type[T]) -> T:
        """A stream of requests, one response. After the first request, the others wait until the server asks for them.

        It does so by its initial metadata. A server that has its answer after the first one gets no more: a write to a
        call that has ended may hide how it ended.
        """

        async def encoded() -> AsyncIterator[bytes]:
            for index, request in enumerate(requests):
                if index == 1 and GO_ON_KEY not in (await call.initial_metadata() or ()):
                    return
                yield encode(request)

        call = self._channel.stream_unary(method)(encoded())
        with self.errors():
            return decode(response, await call)

    def both_ways(self, method: str) -> Any:
        """A stream each way."""
        return self._channel.stream_stream(method)()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise gRPC's errors under our names."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self.named(error) from None
        except grpc.aio.UsageError:
            raise Disconnected(f"{self._address}: this session is closed") from None

    def named(self, error: grpc.aio.AioRpcError) -> SangamError:
        """The error that the server named, or what gRPC's code means to us."""
        metadata = error.trailing_metadata()
        name = str(metadata.get(ERROR_NAME_KEY, "")) if metadata is not None else ""
        kind = by_name(name)
        detail = sentence(error.details() or error.code().name)  # the server's words, for a terminal
        if kind is not None:
            return kind(detail)
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(f"{self._address}: {detail}")
        if error.code() in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}:
            return NotAdmitted(f"{self._address}: {detail}")
        return Disconnected(
            f"{self._address} cannot be reached, or TLS was refused "
            f"(is the server up, is its name in its certificate, do both trust one authority?): {detail}"
        )


class GrpcTransport:
    """A participant's transport over one channel."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._channel = channel

    @asynccontextmanager
    async def control(self) -> AsyncIterator[ControlStream]:
        """Open a control stream; it is cancelled when the block ends."""
        call = self._channel.both_ways("/sangam.v1.Aggregation/Participate")
        try:
            yield _GrpcControl(self._channel, call)
        finally:
            call.cancel()

    async def upload(self, parts: Iterable[UploadMessage]) -> messages.UploadReceipt:
        """Send one upload."""
        return await self._channel.upward("/sangam.v1.Aggregation/Upload", parts, messages.UploadReceipt)

    def fetch_result(self, request: ResultRequest) -> AsyncIterator[ResultMessage]:
        """Receive one result."""
        return self._channel.downward("/sangam.v1.Aggregation/FetchResult", request, ResultMessage)


class _GrpcControl:
    def __init__(self, channel: GrpcChannel, call: Any) -> None:
        self._channel = channel
        self._call = call

    async def send(self, message: ClientMessage) -> None:
        try:
            with self._channel.errors():
                await self._call.write(encode(message))
        except asyncio.InvalidStateError:  # the call has ended, and nobody has read its status yet
            raise await self._broken() from None

    async def receive(self) -> ServerMessage:
        with self._channel.errors():
            data = await self._call.read()
        if data is grpc.aio.EOF:
            raise await self._broken()
        return decode(ServerMessage, data)

    async def _broken(self) -> SangamError:
        """The call has ended: under the status that the server gave it."""
        code, detail = await self._call.code(), await self._call.details()
        metadata = await self._call.trailing_metadata()
        return self._channel.named(grpc.aio.AioRpcError(code, metadata, metadata, detail))
