"""The composition root: files, clock and randomness go in, a running server comes out."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, thread_time, time, time_ns
from typing import Final, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from aggregator.config import ServerConfig
from aggregator.cores import Cores
from aggregator.rounds.task import Host
from aggregator.service import heap
from aggregator.service.aggregation_service import AggregationService
from aggregator.service.ckks_service import CkksService
from aggregator.service.listening import listen
from aggregator.service.membership import Members, Watch
from aggregator.service.operator_service import OperatorService
from aggregator.service.rpc import Gate
from aggregator.service.tasks import Tasks
from aggregator.service.turns import Turns
from aggregator.storage.base import Records, Spool
from aggregator.storage.forgetful import Forgetful
from aggregator.storage.spool import MemorySpool
from aggregator.storage.state import State
from aggregator.wire.ckks_messages import CkksMessage
from aggregator.wire.codec import MESSAGE_BYTES_MAX, bytes_max
from aggregator.wire.messages import CiphertextsRequest, ClientMessage, ResultRequest, UploadMessage
from aggregator.wire.operator_messages import RoundReference, RoundRequest, Task

CKKS: Final = "sangam.v1.Ckks"
SERVICES: Final = ("sangam.v1.Aggregation", "sangam.v1.Operator", CKKS)
STOP_GRACE_S = 2.0
STREAMS_MAX = 32  # per connection; a participant needs two for each of its tasks, an operator a few
INBOUND: Final = (
    ClientMessage,
    UploadMessage,
    ResultRequest,
    CiphertextsRequest,
    Task,
    RoundRequest,
    RoundReference,
    CkksMessage,
)

OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a second server beside the first
    ("grpc.max_receive_message_length", max(bytes_max(kind) for kind in INBOUND)),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # none: ciphertext does not shrink, and a bomb is not inflated
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 500),  # what clients choose is at least a second
    ("grpc.max_concurrent_streams", STREAMS_MAX),
)


Service: TypeAlias = Callable[[Gate, Spool, Turns], grpc.GenericRpcHandler]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens on `port`."""

    port: int
    server: grpc.aio.Server
    tasks: Tasks
    _watch: Watch = field(repr=False)
    _aggregation: AggregationService = field(repr=False)

    async def drain(self, within_s: float) -> None:
        """Take nothing new, and let what is on its way arrive: uploads; of a server that keeps nothing, rounds, too.

        Args:
            within_s: how long that may take.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await asyncio.gather(self._aggregation.drain(), self.tasks.drain())

    async def wait(self) -> None:
        """Until the server is stopped."""
        await self.server.wait_for_termination()

    async def reload(self) -> tuple[str, ...]:
        """Look at identity, roster and revoked serials again; what has changed, in words."""
        return await self._watch.look()

    def reload_soon(self) -> None:
        """The same, from a signal's handler."""
        self._watch.tell()


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
    members = Members(config, _now)
    heap.settle(len(members.present.roster))
    spool = MemorySpool(config.staging_bytes, config.staging_directory)
    cores = Cores()
    records = await _records(config, spool)
    host = _host(members, records, cores)
    tasks = Tasks(host, frozenset(config.task_creators), config.tasks_max)
    gate = Gate(host.authority, lambda: members.present.revoked_serials, _now)
    server = grpc.aio.server(options=(*OPTIONS, *_keepalive(config.keepalive_s)))
    port = listen(server, config.address, lambda: members.present.identity)
    turns = Turns()
    aggregation = AggregationService(tasks, turns)

    def review() -> None:
        heap.settle(len(members.present.roster))
        aggregation.review(gate)

    tasks.restore()
    watch = Watch(members, review, config.reload_s)
    ckks = CkksService(spool, turns, cores.each, config.ckks_bytes if config.ckks else 0)
    ours = aggregation.handlers(gate), OperatorService(tasks).handlers(gate), ckks.handlers(gate)
    server.add_generic_rpc_handlers((*ours, *(service(gate, spool, turns) for service in further)))
    await _add_health(server, silent=() if config.ckks else (CKKS,))
    _add_reflection(server)
    await server.start()
    watching = asyncio.create_task(watch.run())
    try:
        yield Running(port, server, tasks, watch, aggregation)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await tasks.close()
        await server.stop(STOP_GRACE_S)
        if isinstance(records, State):
            await records.close()
        cores.close()


async def _records(config: ServerConfig, spool: MemorySpool) -> Records:
    if config.state is None:
        return Forgetful(spool)
    return await State.open(config.state, spool, time, sync=config.fsync)


def _host(members: Members, records: Records, cores: Cores) -> Host:
    return Host(
        authority=members.present.identity.authority,
        roster=lambda: members.present.roster,
        records=records,
        entropy=os.urandom,
        clock=monotonic,
        now=time,
        first_round=_milliseconds,
        each=cores.each,
        cpu_clock=thread_time,
    )


def _keepalive(every_s: float) -> tuple[tuple[str, int], ...]:
    """Hospital firewalls cut lines that are silent for a minute or more: pings keep them open."""
    every_ms = round(every_s * 1000)
    return ("grpc.keepalive_time_ms", every_ms), ("grpc.keepalive_timeout_ms", every_ms)


def _milliseconds() -> int:
    """The wall clock as a round number: tasks live in memory, and no round is shorter than a millisecond."""
    return time_ns() // 1_000_000


def _now() -> datetime:
    return datetime.now(UTC)


async def _add_health(server: grpc.aio.Server, silent: Iterable[str]) -> None:
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for service in ("", *SERVICES):
        status = health_pb2.HealthCheckResponse
        await servicer.set(service, status.NOT_SERVING if service in silent else status.SERVING)


def _add_reflection(server: grpc.aio.Server) -> None:
    """Let any certificate of the consortium ask for the .proto's content, so that a client needs no file of ours."""
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
