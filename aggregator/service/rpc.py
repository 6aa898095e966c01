"""How a method becomes a gRPC handler: admit the caller by certificate, decode, call, encode, report errors.

There is no way to register a method without a role, so none can be forgotten; where any will do, ANY_ROLE says so.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias, TypeVar

import grpc

from aggregator.crypto.certificates import Certificate, Role
from aggregator.errors import NotAdmitted, Overloaded
from aggregator.service.status import reporting
from aggregator.wire.codec import decode, encode
from aggregator.wire.messages import GO_ON_KEY

Request = TypeVar("Request")
Response = TypeVar("Response")
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
GoOn: TypeAlias = Callable[[int], Awaitable[None]]


class AnyRole:
    """In a role's place: every certificate of the consortium, valid now and not revoked."""


ANY_ROLE: Final = AnyRole()
Admitted: TypeAlias = "Role | frozenset[Role] | AnyRole"

_END: Final[object] = grpc.aio.EOF  # of which the type stub of `read` does not know
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
    _seen: dict[bytes, Certificate] = field(default_factory=dict, repr=False)
    _calls: Counter[bytes] = field(default_factory=Counter, repr=False)

    @contextmanager
    def admitted(self, context: Context, role: Admitted) -> Iterator[Certificate]:
        """The caller, for as long as its call lasts.

        Raises:
            NotAdmitted: as `admit`.
            Overloaded: this certificate has as many calls open as one site needs, and more.
        """
        caller = self.admit(context, role)
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

    async def call(data: bytes, context: Context) -> bytes:
        async with reporting(context):
            with gate.admitted(context, role) as caller:
                response = await method(caller, decode(kind, data))
        return encode(response)

    return grpc.unary_unary_rpc_method_handler(call)


def downward(
    gate: Gate,
    role: Admitted,
    kind: type[Request],
    method: Callable[[Certificate, Request], AsyncIterator[object]],
) -> Handler:
    """One request, a stream of responses."""

    async def call(data: bytes, context: Context) -> AsyncIterator[bytes]:
        async with reporting(context):
            with gate.admitted(context, role) as caller:
                async for response in method(caller, decode(kind, data)):
                    gate.check(caller)  # it may be revoked while it listens
                    yield encode(response)

    return grpc.unary_stream_rpc_method_handler(call)


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

        async with reporting(context):
            with gate.admitted(context, role) as caller:
                response = await method(caller, _decoded(gate, context, role, kind), go_on)
        return encode(response)

    return grpc.stream_unary_rpc_method_handler(call)


def both_ways(
    gate: Gate,
    role: Admitted,
    kind: type[Request],
    method: Callable[[Certificate, AsyncIterator[Request]], AsyncIterator[object]],
) -> Handler:
    """A stream each way. Responses are written, not yielded: gRPC would keep each in memory until the next."""

    async def call(_: AsyncIterator[bytes], context: Context) -> None:
        async with reporting(context):
            with gate.admitted(context, role) as caller:
                async for response in method(caller, _decoded(gate, context, role, kind)):
                    await context.write(encode(response))
                    del response  # as would this loop

    return grpc.stream_stream_rpc_method_handler(call)


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
    while (data := await context.read()) is not _END:
        gate.admit(context, role)
        yield decode(kind, data)
        del data  # as would this loop
    gate.admit(context, role)
