"""HTTP to calls and back: one POST per method of the service, whatever methods it has.

    GET  /v1             the methods
    POST /v1/{Method}    protobuf's JSON form in; out comes JSON, of a stream one object a line (NDJSON)

An error is {"error": its name, "detail": a sentence}, under the HTTP status of its gRPC status; once a stream has
begun, it is the stream's last line. A web page cannot speak to it: browsers ask first before they send JSON elsewhere,
which nothing here answers; and where no token keeps them off, the page's own host name is not ours.
"""

import hmac
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil
from typing import Any, Final

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from aggregator.errors import MessageError, NotAdmitted, NotFound, Overloaded, SangamError
from aggregator.service.status import code_of
from aggregator.wire import messages, operator_messages
from aggregator.wire._pb import aggregation_pb2, operator_pb2
from aggregator.wire.codec import SPARE_BYTES, bytes_max, decode, encode
from aggregator.wire.vocabulary import sentence
from clients.transport import GrpcChannel

SERVICE: Final = operator_pb2.DESCRIPTOR.services_by_name["Operator"]
NDJSON: Final = "application/x-ndjson"
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

# gRPC's own table, but for a precondition that fails: "a round is running" is a conflict, not a malformed request.
HTTP: Final[dict[grpc.StatusCode, HTTPStatus]] = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}

KINDS: Final[dict[HTTPStatus, type[SangamError]]] = {
    HTTPStatus.UNAUTHORIZED: NotAdmitted,
    HTTPStatus.FORBIDDEN: NotAdmitted,
    HTTPStatus.NOT_FOUND: NotFound,
}


@dataclass(frozen=True, slots=True)
class Door:
    """Who comes in: whoever knows the token; without one, whoever is on this machine and no web page."""

    token: bytes | None = field(repr=False)

    def check(self, request: Request) -> None:
        """401 without the token; 403 for a host name that is not this machine's own, where there is no token."""
        if self.token is None:
            if request.url.hostname not in LOOPBACK:
                raise HTTPException(HTTPStatus.FORBIDDEN, "this gateway answers to localhost only")
            return
        shown = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(shown, b"Bearer " + self.token):
            raise HTTPException(HTTPStatus.UNAUTHORIZED, "this gateway needs its token", {"WWW-Authenticate": "Bearer"})


@dataclass(frozen=True, slots=True)
class Calls:
    """The two routes over one channel to the aggregator."""

    channel: GrpcChannel
    door: Door

    async def methods(self, request: Request) -> Response:
        """What can be called."""
        self.door.check(request)
        return JSONResponse({"service": SERVICE.full_name, "methods": [_described(m) for m in SERVICE.methods]})

    async def call(self, request: Request) -> Response:
        """One call."""
        self.door.check(request)
        method = SERVICE.methods_by_name.get(request.path_params["method"])
        if method is None:
            raise NotFound(f"there is no method {request.path_params['method'][:63]!r}: GET /v1 lists them")
        body = _parse(method, await _body(request, bytes_max(_ours(method.input_type)) + SPARE_BYTES))
        path, response = f"/{SERVICE.full_name}/{method.name}", _ours(method.output_type)
        if not method.server_streaming:
            return Response(_json(await self.channel.unary(path, body, response)), media_type="application/json")
        stream: Any = self.channel.downward(path, body, response)
        first = await anext(stream, None)  # an error before it still has a status
        return StreamingResponse(_lines(first, stream), media_type=NDJSON)


def build(channel: GrpcChannel, token: bytes | None) -> Starlette:
    """The application; `token` as bytes of ASCII, None for loopback only."""
    calls = Calls(channel, Door(token))
    routes = [
        Route("/v1", calls.methods, methods=["GET"]),
        Route("/v1/{method}", calls.call, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _failed, SangamError: _failed})


async def _body(request: Request, most: int) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {most} bytes")
    return bytes(body)


def _parse(method: MethodDescriptor, body: bytes) -> object:
    """JSON to our message, within its bounds; MessageError says what is wrong."""
    kind = method.input_type.name
    try:
        message = json_format.Parse(body or b"{}", _generated(kind)())
    except (ValueError, json_format.ParseError) as error:
        raise MessageError(f"{kind}: {error}") from None
    return decode(_ours(method.input_type), message.SerializeToString())


def _json(value: object) -> str:
    message = _generated(type(value).__name__).FromString(encode(value))
    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )


async def _lines(first: object, stream: Any) -> AsyncIterator[str]:
    async with aclosing(stream):  # a caller who hangs up ends the call
        try:
            if first is not None:
                yield _json(first) + "\n"
            async for value in stream:
                yield _json(value) + "\n"
        except SangamError as error:
            yield json.dumps(_said(error)) + "\n"


def _ours(descriptor: Any) -> type:
    found: type = getattr(operator_messages, descriptor.name, None) or getattr(messages, descriptor.name)
    return found


def _generated(name: str) -> Any:
    return getattr(operator_pb2, name, None) or getattr(aggregation_pb2, name)


def _described(method: MethodDescriptor) -> dict[str, object]:
    kinds = {"request": method.input_type.full_name, "response": method.output_type.full_name}
    return {"method": method.name, **kinds, "streams": method.server_streaming}


def _said(error: SangamError) -> dict[str, str]:
    return {"error": type(error).__name__, "detail": sentence(str(error))}


async def _failed(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        kind = KINDS.get(HTTPStatus(error.status_code), MessageError)
        said = _said(kind(error.detail))
        return JSONResponse(said, error.status_code, error.headers)
    if isinstance(error, SangamError):
        status = HTTP.get(code_of(error), HTTPStatus.INTERNAL_SERVER_ERROR)
        told = error.retry_after_s if isinstance(error, Overloaded) else None
        return JSONResponse(_said(error), status, None if told is None else {"retry-after": str(ceil(told))})
    raise error
