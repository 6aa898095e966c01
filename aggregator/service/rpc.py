"""How a method becomes a gRPC handler: admit the caller by certificate, decode, call, encode, report errors.

There is no way to register a method without a role, so none can be forgotten; where any will do, ANY_ROLE says so.
Every method is a stream of requests to gRPC, which then reads none before the caller is admitted and its call counted:
of a unary method it would read the request first, of any length and for as long as it takes.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias, TypeVar

import grpc

from aggregator.crypto.certificates import Certificate, Role
from aggregator.errors import Disconnected, MessageError, NotAdmitted, Overloaded
from aggregator.service.allowance import CALL_BYTES, Allowance
from aggregator.service.status import reporting
from aggregator.wire.codec import CHUNK_CARRIERS, decode, encode
from aggregator.wire.messages import GO_ON_KEY, Chunk

Request = TypeVar("Request")
T = TypeVar("T")
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
GoOn: TypeAlias = Callable[[int], Awaitable[None]]


class AnyRole:
    """In a role's place: every certificate of the consortium, valid now and not revoked."""


ANY_ROLE: Final = AnyRole()
Admitted: TypeAlias = "Role | frozenset[Role] | AnyRole"

_END: Final[object] = grpc.aio.EOF  # of which the type stub of `read` does not know
FIRST_S: Final = 20.0  # until a call's first message is there
STALLED_S: Final = 60.0  # until a caller has read a message, or sent an upload's next chunk; clients give up then, too
CERTIFICATES_REMEMBERED = 20_000
CALLS_PER_CERTIFICATE_MAX = 32  # over all its connections; a participant needs two for each task


@dataclass(frozen=True, slots=True)
class Gate:
    """Who may call: a certificate of this authority, of the right role, valid now and not revoked.

    TLS has checked the chain before; this checks what TLS does not know. `revoked` gives the serials revoked by now.
    """

    authority: Certificate
    revoked: Callable[[], frozenset[int]] = field(repr=False)
    now: Callable[[], datetime] = field(repr=False)
    allowance: Allowance = field(repr=False)
    _seen: dict[bytes, Certificate] = field(default_factory=dict, repr=False)
    _calls: Counter[bytes] = field(default_factory=Counter, repr=False)

    @contextmanager
    def admitted(self, context: Context, role: Admitted) -> Iterator[Certificate]:
        """The caller, for as long as its call lasts.

        Raises:
            NotAdmitted: as `admit`.
            Overloaded: this certificate has as many calls open as one site needs, and more; or it calls too often.
        """
        caller = self.admit(context, role)
        self.allowance.charge(caller, CALL_BYTES)
        if self._calls[caller.fingerprint] >= CALLS_PER_CERTIFICATE_MAX:
            raise Overloaded(f"{caller.name} has {CALLS_PER_CERTIFICATE_MAX} calls open")
        self._calls[caller.fingerprint] += 1
        try:
            yield caller
        finally:
            self._calls[caller.fingerprint] -= 1
            if not self._calls[caller.fingerprint]:
                del self._calls[caller.fingerprint]

    def admit(self, context: Context, role: Admitted) -> Certificate:
        """The caller's certificate.

        Raises:
            NotAdmitted: no certificate, another consortium's, another role's, expired or revoked.
        """
        auth: Any = context.auth_context()
        return self.admit_certificate(next(iter(auth.get("x509_pem_cert", ())), b""), role)

    def admit_certificate(self, pem: bytes, role: Admitted) -> Certificate:
        """The same for a certificate that TLS has checked elsewhere; empty for none. Errors as `admit`."""
        certificate = self._certificate(pem)
        roles = frozenset({role}) if isinstance(role, Role) else role
        if not isinstance(roles, AnyRole) and certificate.role not in roles:
            wanted = " or ".join(sorted(roles))
            raise NotAdmitted(f"{certificate.name} is certified as {certificate.role}, this call is for {wanted}")
        self.check(certificate)
        return certificate

    def check(self, certificate: Certificate) -> None:
        """Whether one of this consortium's certificates counts now; NotAdmitted when revoked or out of its time."""
        if certificate.serial in self.revoked():
            raise NotAdmitted(f"the certificate of {certificate.name} was revoked")
        certificate.check_valid_at(self.now())

    def _certificate(self, pem: bytes) -> Certificate:
        if not pem:
            raise NotAdmitted("this call needs a client certificate")
        if pem not in self._seen:
            certificate = Certificate.from_pem(pem)
            if not certificate.issued_by(self.authority):
                raise NotAdmitted(f"the certificate of {certificate.name} was not issued by this consortium")
            if len(self._seen) >= CERTIFICATES_REMEMBERED:
                self._seen.clear()
            self._seen[pem] = certificate
        return self._seen[pem]


def unary(
    gate: Gate, role: Admitted, kind: type[Request], method: Callable[[Certificate, Request], Awaitable[object]]
) -> Handler:
    """One request, one response."""

    async def call(_: AsyncIterator[bytes], context: Context) -> bytes:
        async with _admitted(gate, context, role) as caller:
            response = await method(caller, await first(_decoded(gate, context, role, kind)))
        return encode(response)

    return grpc.stream_unary_rpc_method_handler(call)


def downward(
    gate: Gate,
    role: Admitted,
    kind: type[Request],
    method: Callable[[Certificate, Request], AsyncGenerator[object, None]],
) -> Handler:
    """One request, a stream of responses."""

    async def call(_: AsyncIterator[bytes], context: Context) -> None:
        async with (
            _admitted(gate, context, role) as caller,
            aclosing(method(caller, await first(_decoded(gate, context, role, kind)))) as responses,
        ):
            async for response in responses:
                gate.check(caller)  # it may be revoked while it listens
                await _write(context, encode(response))
                del response  # or it would stay until there is another one

    return grpc.stream_stream_rpc_method_handler(call)


def upward(
    gate: Gate,
    role: Admitted,
    kind: type[Request],
    method: Callable[[Certificate, AsyncIterator[Request], GoOn], Awaitable[object]],
) -> Handler:
    """A stream of requests, one response. The method says when the rest of the stream may come, and from where on."""

    async def call(_: AsyncIterator[bytes], context: Context) -> bytes:
        async def go_on(first_chunk: int) -> None:
            await _whole(context.send_initial_metadata(((GO_ON_KEY, str(first_chunk)),)))

        async with _admitted(gate, context, role) as caller:
            response = await method(caller, _decoded(gate, context, role, kind), go_on)
        return encode(response)

    return grpc.stream_unary_rpc_method_handler(call)


def both_ways(
    gate: Gate,
    role: Admitted,
    kind: type[Request],
    method: Callable[[Certificate, AsyncIterator[Request]], AsyncGenerator[object, None]],
) -> Handler:
    """A stream each way. Responses are written, not yielded: gRPC would keep each in memory until the next."""

    async def call(_: AsyncIterator[bytes], context: Context) -> None:
        async with (
            _admitted(gate, context, role) as caller,
            aclosing(method(caller, _decoded(gate, context, role, kind))) as responses,
        ):
            async for response in responses:
                await _write(context, encode(response))
                del response  # as would this loop

    return grpc.stream_stream_rpc_method_handler(call)


async def first(messages: AsyncIterator[Request]) -> Request:
    """The first message of a stream.

    Raises:
        MessageError: it ended before.
        Disconnected: nothing has come for too long.
    """
    message = await _in_time(FIRST_S, anext(messages, None))
    if message is None:
        raise MessageError("the stream ended before its first message")
    return message


async def within(seconds: float, messages: AsyncIterator[Request]) -> AsyncIterator[Request]:
    """Messages, each of which has so long to come; Disconnected when one does not."""
    while (message := await _in_time(seconds, anext(messages, None))) is not None:
        yield message
        del message  # or it would stay until the next one comes


@asynccontextmanager
async def _admitted(gate: Gate, context: Context, role: Admitted) -> AsyncIterator[Certificate]:
    """The caller. An error is sent while its call still counts: one that reads nothing takes nobody else's place."""
    async with reporting(context):
        with gate.admitted(context, role) as caller:
            async with reporting(context):
                yield caller


async def _write(context: Context, data: bytes) -> None:
    await _in_time(STALLED_S, context.write(data), "the caller has read nothing")


async def _in_time(seconds: float, step: Awaitable[T], what: str = "nothing has come") -> T:
    try:
        async with asyncio.timeout(seconds):
            return await step
    except TimeoutError:
        raise Disconnected(f"{what} for {seconds:g} s") from None


async def _whole(sending: Coroutine[Any, Any, None]) -> None:
    """Send to the end, even if cancelled meanwhile: gRPC would send what it was sending again, with the error."""
    task = asyncio.ensure_future(sending)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def _decoded(gate: Gate, context: Context, role: Admitted, kind: type[Request]) -> AsyncIterator[Request]:
    """Each message, its author admitted anew, and the stream's end, too: a certificate may end while it is open.

    Messages are read, not iterated over: gRPC's iterator would keep each in memory until the next, and of a thousand
    streams that wait for the next step 20 MB of dealt shares.
    """
    begun = False
    while (data := await context.read()) is not _END:
        yield _charged(gate, gate.admit(context, role), kind, data, begun=begun)
        begun = True
        del data  # as would this loop
    gate.admit(context, role)


def _charged(gate: Gate, caller: Certificate, kind: type[Request], data: bytes, *, begun: bool) -> Request:
    """One message, and what it counts for.

    Chunks count in their round (`rounds.uploads`), or are an operator's; but not one with which a stream begins.
    """
    if kind not in CHUNK_CARRIERS or not begun:
        gate.allowance.charge(caller, len(data))
        return decode(kind, data)
    message: Any = decode(kind, data)
    if not isinstance(message.body, Chunk):
        gate.allowance.charge(caller, len(data))
    carried: Request = message
    return carried
