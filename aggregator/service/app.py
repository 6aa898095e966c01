"""The composition root: files, clock and randomness go in, a running server comes out."""

import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, thread_time, time_ns
from typing import Final, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from aggregator.config import ServerConfig
from aggregator.cores import Cores
from aggregator.crypto import roster as rosters
from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import Identity
from aggregator.errors import ParameterError, StorageError
from aggregator.files import read_file
from aggregator.rounds.task import Host
from aggregator.service.admission import Admission
from aggregator.service.aggregation_service import AggregationService
from aggregator.service.operator_service import OperatorService
from aggregator.service.rpc import Gate
from aggregator.service.tasks import Tasks
from aggregator.storage.base import Spool
from aggregator.storage.spool import MemorySpool
from aggregator.wire.codec import MESSAGE_BYTES_MAX, bytes_max
from aggregator.wire.messages import ClientMessage, ResultRequest, UploadMessage
from aggregator.wire.operator_messages import RoundReference, RoundRequest, Task

SERVICES: Final = ("sangam.v1.Aggregation", "sangam.v1.Operator")
STOP_GRACE_S = 2.0
STREAMS_MAX = 16  # per connection; a participant needs two, an operator a few
INBOUND: Final = (ClientMessage, UploadMessage, ResultRequest, Task, RoundRequest, RoundReference)

# Hospital firewalls cut lines that are silent for a minute or more: a ping every 20 s keeps them open.
OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a second server beside the first
    ("grpc.max_receive_message_length", max(bytes_max(kind) for kind in INBOUND)),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_concurrent_streams", STREAMS_MAX),
)


Service: TypeAlias = Callable[[Gate, Spool, Admission], grpc.GenericRpcHandler]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens on `port`."""

    port: int
    server: grpc.aio.Server
    tasks: Tasks

    async def wait(self) -> None:
        """Until the server is stopped."""
        await self.server.wait_for_termination()


@asynccontextmanager
async def serve(config: ServerConfig, further: Iterable[Service] = ()) -> AsyncIterator[Running]:
    """Run a server until the block ends; then rounds are stopped and streams closed.

    Args:
        config: where, as whom, with which roster.
        further: makes more services to stand beside ours, behind the same gate, with the same room for uploads.

    Raises:
        NotAdmitted: this is no aggregator's identity, it has expired, or the roster is not this authority's.
        StorageError: a file cannot be read.
        ParameterError: the address cannot be listened on, or a file does not hold what it should.
    """
    identity = Identity.load(config.identity)
    identity.check(Role.AGGREGATOR, _now())
    roster = rosters.from_bytes(read_file(config.roster))
    roster.verify(identity.authority, _now())
    spool = MemorySpool(config.staging_bytes, config.staging_directory)
    cores = Cores()
    deployment = identity.certificate.deployment
    authority, each = identity.authority, cores.each
    host = Host(deployment, authority, lambda: roster, spool, os.urandom, monotonic, _milliseconds, each, thread_time)
    tasks = Tasks(host)
    gate = Gate(identity.authority, _read_revoked(config.revoked), _now)
    server = grpc.aio.server(options=OPTIONS)
    port = _listen(server, config.address, identity)
    admission = Admission()
    ours = AggregationService(tasks, admission).handlers(gate), OperatorService(tasks).handlers(gate)
    server.add_generic_rpc_handlers((*ours, *(service(gate, spool, admission) for service in further)))
    await _add_health(server)
    _add_reflection(server)
    await server.start()
    try:
        yield Running(port, server, tasks)
    finally:
        await tasks.close()
        await server.stop(STOP_GRACE_S)
        cores.close()


def _milliseconds() -> int:
    """The wall clock as a round number: tasks live in memory, and no round is shorter than a millisecond."""
    return time_ns() // 1_000_000


def _now() -> datetime:
    return datetime.now(UTC)


def _listen(server: grpc.aio.Server, address: str, identity: Identity) -> int:
    credentials = grpc.ssl_server_credentials(
        [(identity.key_pem, identity.certificate.pem)],
        root_certificates=identity.authority.pem,
        require_client_auth=True,
    )
    try:
        return server.add_secure_port(address, credentials)
    except RuntimeError:
        raise ParameterError(f"cannot listen on {address}: the port is in use, or the address is not ours") from None


async def _add_health(server: grpc.aio.Server) -> None:
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for service in ("", *SERVICES):
        await servicer.set(service, health_pb2.HealthCheckResponse.SERVING)


def _add_reflection(server: grpc.aio.Server) -> None:
    """Let any certificate of the consortium ask for the .proto's content, so that a client needs no file of ours."""
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)


def _read_revoked(path: Path | None) -> frozenset[int]:
    if path is None:
        return frozenset()
    try:
        return frozenset(int(line, 0) for line in read_file(path).decode().split())
    except ValueError:
        raise StorageError(f"{path} must hold one serial number per line, decimal or 0x hexadecimal") from None
