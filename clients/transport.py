"""How messages reach the aggregator: the contract, and gRPC over mutual TLS.

Errors that the server names are raised here under the same name.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from itertools import islice
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import grpc

from aggregator.crypto.identity import Identity
from aggregator.errors import (
    Disconnected,
    Equivocation,
    MessageError,
    NotAdmitted,
    NotOffered,
    Overloaded,
    ParameterError,
    SangamError,
    by_name,
)
from aggregator.tracing import outgoing
from aggregator.wire import messages
from aggregator.wire.codec import MESSAGE_BYTES_MAX, decode, encode
from aggregator.wire.messages import (
    ERROR_NAME_KEY,
    GO_ON_KEY,
    RETRY_AFTER_KEY,
    CiphertextsRequest,
    ClientMessage,
    ResultMessage,
    ResultRequest,
    ServerMessage,
    UploadMessage,
)
from aggregator.wire.vocabulary import sentence

T = TypeVar("T")

KEEPALIVE_S: Final = 20.0  # hospital firewalls cut lines that are silent for a minute or more
KEEPALIVE_LEAST_S: Final = 1.0  # the server hangs up on whom it takes for a flood
STALLED_AFTER: Final = 3  # keepalives without a step forward
CHUNK_DIGITS_MAX: Final = 10
RETRY_DIGITS_MAX: Final = 10
RETRY_AFTER_MOST_S: Final = 60.0  # whatever a server says; an honest one says at most 30
METHOD_UNKNOWN: Final = "Method not found!"  # gRPC's words; its code alone also stands for a compression that is off

# gRPC's own back-off grows to 120 s and would dominate every recovery; 2 s is the most a client waits here. What it
# calls the least back-off is the time that one attempt has for TCP and TLS, which go across a line four times.
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # none: ciphertext does not shrink, and a bomb is not inflated
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
        """Send one upload: its header, and of its chunks those that the server does not hold yet."""

    def fetch_result(self, request: ResultRequest) -> AsyncIterator[ResultMessage]:
        """Receive one result."""


class PartyTransport(Transport, Protocol):
    """What key holder and auditor need besides."""

    def fetch_ciphertexts(self, request: CiphertextsRequest) -> AsyncIterator[ResultMessage]:
        """Receive one client's ciphertexts, or the sum's."""


class GrpcChannel:
    """A channel to the aggregator that raises our errors.

    Args:
        address: host:port of the aggregator.
        identity: who calls.
        proxy: http://host:port of a proxy that passes lines on (CONNECT); by default what the environment says
            (https_proxy, no_proxy).
        keepalive_s: how long the line may be silent before it is tested, seconds. A line that does not answer for as
            long counts as broken, an upload that does not move for thrice as long, too.

    Raises:
        ParameterError: no such proxy, or too short a time.
    """

    def __init__(self, address: str, identity: Identity, *, proxy: str = "", keepalive_s: float = KEEPALIVE_S) -> None:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=identity.authority.pem,
            private_key=identity.key_pem,
            certificate_chain=identity.certificate.pem,
        )
        self._address = address
        self._way = f" through the proxy {_place_of(proxy)}" if proxy else ""
        self._stalled_s = STALLED_AFTER * keepalive_s
        options = (*OPTIONS, *_line_options(proxy, keepalive_s))
        self._channel: Any = grpc.aio.secure_channel(address, credentials, options=options)

    async def connect(self) -> None:
        """Connect now, not with the first call."""
        await self._channel.channel_ready()

    async def close(self) -> None:
        """Close the channel and all that runs over it."""
        await self._channel.close()

    async def unary(self, method: str, request: object, response: type[T]) -> T:
        """One request, one response."""
        with self.errors():
            return decode(response, await self._channel.unary_unary(method)(encode(request), metadata=outgoing()))

    async def downward(self, method: str, request: object, response: type[T]) -> AsyncGenerator[T, None]:
        """One request, a stream of responses."""
        call = self._channel.unary_stream(method)(encode(request))
        try:
            with self.errors():
                async for data in call:
                    yield decode(response, data)
        finally:
            call.cancel()

    async def upward(self, method: str, requests: Iterable[object], response: type[T]) -> T:
        """A stream of requests, one response. After the first request, the others wait until the server asks for them.

        It does so by its initial metadata, which also say how many of the others it holds already: they are left out.
        A server that has its answer after the first one gets no more: a write to a call that has ended may hide how it
        ended.

        Raises:
            Disconnected: also when nothing moved for too long.
            Equivocation: the server says that it holds more than there is.
            MessageError: the server asks for something that is no number.
        """
        call = self._channel.stream_unary(method)(metadata=outgoing())
        try:
            with self.errors():
                await self._send(call, iter(requests))
                return decode(response, await self._moving(call))
        finally:
            call.cancel()

    async def _send(self, call: Any, requests: Iterator[object]) -> None:
        try:
            for first in islice(requests, 1):
                await self._moving(call.write(encode(first)))
                go_on = (await self._moving(call.initial_metadata()) or {}).get(GO_ON_KEY)
                if go_on is not None:
                    self._leave_out(requests, go_on)
                    for request in requests:
                        await self._moving(call.write(encode(request)))
            await call.done_writing()
        except asyncio.InvalidStateError:  # the call has ended; its status says how
            return

    def _leave_out(self, requests: Iterator[object], held: str | bytes) -> None:
        """Skip as many requests as the server holds."""
        if not isinstance(held, str) or not held.isascii() or not held.isdigit() or len(held) > CHUNK_DIGITS_MAX:
            raise MessageError(f"{self._address}: the server did not say by a number from which chunk to go on")
        skipped = sum(1 for _ in islice(requests, int(held)))
        if skipped < int(held):
            raise Equivocation(f"{self._address}: the server says that it holds {held} chunks, there are {skipped}")

    async def _moving(self, step: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._stalled_s):
                return await step
        except TimeoutError:
            raise Disconnected(f"{self._address}: nothing has moved for {self._stalled_s:g} s") from None

    def both_ways(self, method: str) -> Any:
        """A stream each way."""
        return self._channel.stream_stream(method)()

    @asynccontextmanager
    async def stream(self, method: str, response: type[T]) -> AsyncIterator["GrpcStream[T]"]:
        """The same with our messages and errors; it is cancelled when the block ends."""
        call = self.both_ways(method)
        try:
            yield GrpcStream(self, call, response)
        finally:
            call.cancel()

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
        if kind is Overloaded:
            return Overloaded(detail, _seconds(str(metadata.get(RETRY_AFTER_KEY, ""))))
        if kind is not None:
            return kind(detail)
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(f"{self._address}: {detail}")
        if detail == METHOD_UNKNOWN:
            return NotOffered(f"{self._address} is of another version and does not know this call")
        if error.code() in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}:
            return NotAdmitted(f"{self._address}: {detail}")
        return Disconnected(
            f"{self._address} cannot be reached{self._way}, or TLS was refused "
            f"(is the server up, is its name in its certificate, do both trust one authority?): {detail}"
        )


def _line_options(proxy: str, keepalive_s: float) -> list[tuple[str, int | str]]:
    if not keepalive_s >= KEEPALIVE_LEAST_S:
        raise ParameterError(f"keepalive_s is {keepalive_s:g}, at least {KEEPALIVE_LEAST_S:g} s are allowed")
    times = ("grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms")
    options: list[tuple[str, int | str]] = [(name, round(keepalive_s * 1000)) for name in times]
    return [*options, ("grpc.http_proxy", proxy)] if proxy else options


def _seconds(told: str) -> float | None:
    """When to come back, as the server says; None for what no honest server says, which counts as not said."""
    whole, _, part = told.partition(".")
    digits = whole + part
    if not digits.isascii() or not digits.isdigit() or len(digits) > RETRY_DIGITS_MAX:
        return None
    return min(float(told), RETRY_AFTER_MOST_S)


def _place_of(proxy: str) -> str:
    """A proxy's host:port, without the password that may stand before it; ParameterError when there is none."""
    try:
        parts = urlsplit(proxy)
        if parts.scheme == "http" and parts.hostname and parts.port:
            return f"{parts.hostname}:{parts.port}"
    except ValueError:
        pass
    raise ParameterError("the proxy must be given as http://host:port")


class GrpcTransport:
    """A participant's transport; each call asks for its channel, since a renewed certificate has one of its own."""

    def __init__(self, channel: Callable[[], GrpcChannel]) -> None:
        self._channel = channel

    @asynccontextmanager
    async def control(self) -> AsyncIterator[ControlStream]:
        """Open a control stream; it is cancelled when the block ends."""
        async with self._channel().stream("/sangam.v1.Aggregation/Participate", ServerMessage) as stream:
            yield stream

    async def upload(self, parts: Iterable[UploadMessage]) -> messages.UploadReceipt:
        """Send one upload."""
        return await self._channel().upward("/sangam.v1.Aggregation/Upload", parts, messages.UploadReceipt)

    def fetch_result(self, request: ResultRequest) -> AsyncIterator[ResultMessage]:
        """Receive one result."""
        return self._channel().downward("/sangam.v1.Aggregation/FetchResult", request, ResultMessage)

    def fetch_ciphertexts(self, request: CiphertextsRequest) -> AsyncIterator[ResultMessage]:
        """Receive one client's ciphertexts, or the sum's."""
        return self._channel().downward("/sangam.v1.Aggregation/FetchCiphertexts", request, ResultMessage)


class GrpcStream(Generic[T]):
    """An open stream each way; made by `GrpcChannel.stream`."""

    def __init__(self, channel: GrpcChannel, call: Any, response: type[T]) -> None:
        self._channel = channel
        self._call = call
        self._response = response

    async def send(self, message: object) -> None:
        """Send one message. Disconnected when the stream is broken, or the error that the server named."""
        try:
            with self._channel.errors():
                await self._call.write(encode(message))
        except asyncio.InvalidStateError:  # the call has ended, and nobody has read its status yet
            raise await self._broken() from None

    async def done(self) -> None:
        """Nothing more will be sent; errors as `send`."""
        try:
            with self._channel.errors():
                await self._call.done_writing()
        except asyncio.InvalidStateError:
            raise await self._broken() from None

    async def receive(self) -> T:
        """The next message. Disconnected when the stream ended, or the error that the server named."""
        with self._channel.errors():
            data = await self._call.read()
        if data is grpc.aio.EOF:
            raise await self._broken()
        return decode(self._response, data)

    async def _broken(self) -> SangamError:
        """The call has ended: under the status that the server gave it."""
        code, detail = await self._call.code(), await self._call.details()
        metadata = await self._call.trailing_metadata()
        return self._channel.named(grpc.aio.AioRpcError(code, metadata, metadata, detail))
