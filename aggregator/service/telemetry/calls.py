"""Every call to our services, as it is seen from outside: how long, how many bytes, how it ended."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter
from typing import Any, Final

import grpc
from opentelemetry.trace import SpanKind

from aggregator import tracing
from aggregator.service.telemetry.metrics import Metrics
from aggregator.wire.messages import ERROR_NAME_KEY

OURS: Final = "/sangam.v1."
OK, CANCELLED, UNKNOWN = grpc.StatusCode.OK, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN


class Calls(grpc.aio.ServerInterceptor):
    """Counts and traces the calls of our own methods; health checks, reflection and strangers' methods pass unseen."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """As gRPC has it."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(OURS):
            return handler
        return self._seen(handler, method.removeprefix("/"))

    def _seen(self, handler: Any, method: str) -> Any:
        """The same handler under the same kind, with its calls counted; `rpc` makes streams of all requests."""
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(self._told(handler.stream_unary, method))
        return grpc.stream_stream_rpc_method_handler(self._told(handler.stream_stream, method))

    def _told(self, behaviour: Any, method: str) -> Any:
        async def call(request: Any, context: Any) -> bytes | None:
            with self._call(method, context) as line, _traced(method, context):
                response: bytes | None = await behaviour(request, line)
                line.sent(response)
            return response

        return call

    @contextmanager
    def _call(self, method: str, context: Any) -> Iterator["_Line"]:
        start, code = perf_counter(), OK
        try:
            yield _Line(context, self._metrics, method)
        except asyncio.CancelledError:
            code = CANCELLED
            raise
        except BaseException:
            code = context.code() or UNKNOWN  # unless it was said, gRPC makes this of it
            raise
        finally:
            self._metrics.call_seconds.labels(method).observe(perf_counter() - start)
            self._metrics.calls.labels(method, code.name).inc()
            error = dict(context.trailing_metadata() or ()).get(ERROR_NAME_KEY)
            if error is not None:
                self._metrics.refusals.labels(error).inc()


def _traced(method: str, context: Any) -> AbstractContextManager[object]:
    """A span around a call that says what it is part of."""
    caller = tracing.incoming(context.invocation_metadata() or ())
    return nullcontext() if caller is None else tracing.span(method, caller, kind=SpanKind.SERVER)


class _Line:
    """A call's context that counts what passes; otherwise the very same."""

    def __init__(self, context: Any, metrics: Metrics, method: str) -> None:
        self._context = context
        self._received = metrics.received_bytes.labels(method)
        self._sent = metrics.sent_bytes.labels(method)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        """The next message, or gRPC's end."""
        data = await self._context.read()
        self.received(data)
        return data

    async def write(self, data: bytes) -> None:
        """One message."""
        self.sent(data)
        await self._context.write(data)

    def received(self, data: Any) -> None:
        """Count a request; a stream's end is none."""
        if isinstance(data, bytes):
            self._received.inc(len(data))

    def sent(self, data: bytes | None) -> None:
        """Count a response; None is what comes of a handler that has written its responses."""
        self._sent.inc(len(data or b""))
