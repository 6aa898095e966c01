"""The one table from our errors to gRPC's status codes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc

from aggregator.errors import (
    Cancelled,
    Disconnected,
    Expired,
    MessageError,
    NameTaken,
    NotAdmitted,
    NotFound,
    NotOffered,
    OutOfTurn,
    Overloaded,
    ParameterError,
    RoundAborted,
    SangamError,
    StorageError,
    VersionMismatch,
)
from aggregator.wire.messages import ERROR_NAME_KEY, RETRY_AFTER_KEY
from aggregator.wire.vocabulary import sentence

STATUS: Final[dict[type[SangamError], grpc.StatusCode]] = {
    ParameterError: grpc.StatusCode.INVALID_ARGUMENT,
    MessageError: grpc.StatusCode.INVALID_ARGUMENT,
    OutOfTurn: grpc.StatusCode.FAILED_PRECONDITION,
    VersionMismatch: grpc.StatusCode.UNIMPLEMENTED,
    NotOffered: grpc.StatusCode.UNIMPLEMENTED,
    NotAdmitted: grpc.StatusCode.PERMISSION_DENIED,
    NameTaken: grpc.StatusCode.ALREADY_EXISTS,
    NotFound: grpc.StatusCode.NOT_FOUND,
    Cancelled: grpc.StatusCode.FAILED_PRECONDITION,
    Expired: grpc.StatusCode.FAILED_PRECONDITION,
    RoundAborted: grpc.StatusCode.ABORTED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Disconnected: grpc.StatusCode.UNAVAILABLE,
    StorageError: grpc.StatusCode.UNAVAILABLE,
}


def code_of(error: SangamError) -> grpc.StatusCode:
    """The status of an error: its own class's, or the nearest parent's."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), grpc.StatusCode.INTERNAL)


@asynccontextmanager
async def reporting(context: "grpc.aio.ServicerContext[bytes, bytes]") -> AsyncIterator[None]:
    """Turn our errors into the call's status, in one sentence and with the class's name; others stay gRPC's."""
    try:
        yield
    except SangamError as error:
        await context.abort(code_of(error), sentence(str(error)), trailing_metadata=_named(error))


def _named(error: SangamError) -> tuple[tuple[str, str], ...]:
    """What goes along with an error: its name, and when to come back."""
    name = ((ERROR_NAME_KEY, type(error).__name__),)
    if isinstance(error, Overloaded) and error.retry_after_s is not None:
        return *name, (RETRY_AFTER_KEY, f"{error.retry_after_s:.3f}")
    return name
