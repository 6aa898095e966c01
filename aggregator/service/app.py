"""The composition root: files, clock and randomness go in, a running server comes out."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from time import monotonic, thread_time, time, time_ns
from typing import Final, TypeAlias

import grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_reflection.v1alpha import reflection

from aggregator.config import ServerConfig
from aggregator.cores import Cores
from aggregator.rounds.task import Host
from aggregator.service import heap
from aggregator.service.admission import Admission
from aggregator.service.aggregation_service import AggregationService
from aggregator.service.allowance import Allowance
from aggregator.service.ckks_service import CkksService
from aggregator.service.health import Health
from aggregator.service.listening import listen
from aggregator.service.membership import Members, Watch
from aggregator.service.operator_service import OperatorService
from aggregator.service.rpc import Gate
from aggregator.service.tasks import Tasks
from aggregator.service.telemetry.calls import Calls
from aggregator.service.telemetry.exposition import Door, Mutual, Plain, exposed
from aggregator.service.telemetry.metrics import Metrics
from aggregator.service.telemetry.rounds import RoundsTelemetry
from aggregator.service.turns import Turns
from aggregator.storage.base import Records, Spool, Stored
from aggregator.storage.forgetful import Forgetful
from aggregator.storage.spool import MemorySpool
from aggregator.storage.state import opened
from aggregator.wire.ckks_messages import CkksMessage
from aggregator.wire.codec import MESSAGE_BYTES_MAX, bytes_max
from aggregator.wire.messages import CiphertextsRequest, ClientMessage, ResultRequest, UploadMessage
from aggregator.wire.operator_messages import RoundReference, RoundRequest, Task

_LOG = logging.getLogger(__name__)

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
    ("grpc.server_handshake_timeout_ms", 20_000),  # TCP, TLS and HTTP/2 together; a site over a bad line needs 2 s
    ("grpc.max_connection_idle_ms", 600_000),  # without any call; the next call connects anew
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.absolute_max_metadata_size", 16 << 10),
)


Service: TypeAlias = Callable[[Gate, Spool, Turns], grpc.GenericRpcHandler]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens on `port`, and shows its metrics on `metrics_port` where they are shown (0: nowhere)."""

    port: int
    server: grpc.aio.Server
    tasks: Tasks
    metrics: Metrics
    metrics_port: int
    health: Health
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
    metrics = Metrics()
    members = Members(config, _now)
    heap.settle(len(members.present.roster))
    spool = MemorySpool(config.staging_bytes, config.staging_directory)
    health = Health(SERVICES, () if config.ckks else (CKKS,), metrics)
    async with AsyncExitStack() as stack:
        cores = stack.enter_context(closing(Cores()))
        records, stored = await stack.enter_async_context(_records(config, spool, health))
        host = _host(members, records, cores, RoundsTelemetry(metrics, members.present.identity.authority.fingerprint))
        tasks = Tasks(host, frozenset(config.task_creators), config.tasks_max, config.rounds_max)
        gate = Gate(host.authority, lambda: members.present.revoked_serials, _now, Allowance(monotonic))
        server = grpc.aio.server(options=(*OPTIONS, *_keepalive(config.keepalive_s)), interceptors=[Calls(metrics)])
        stack.push_async_callback(server.stop, STOP_GRACE_S)
        port = listen(server, config.address, lambda: members.present.identity)
        turns = Turns()
        admission = Admission(config.staging_bytes + config.spool_bytes, monotonic)
        metrics.watch(lambda: spool.held_bytes, lambda: turns.waiting + admission.waiting, lambda: len(tasks.connected))
        aggregation = AggregationService(tasks, turns, admission)
        stack.push_async_callback(tasks.close)
        await tasks.restore(stored)
        _say_what_goes_on(config, stored)
        ckks = CkksService(spool, turns, cores.each, config.ckks_bytes if config.ckks else 0)
        operators = OperatorService(tasks, stored.keys)
        del stored  # its files are mapped for as long as somebody holds it
        ours = aggregation.handlers(gate), operators.handlers(gate), ckks.handlers(gate)
        server.add_generic_rpc_handlers((*ours, *(service(gate, spool, turns) for service in further)))
        await health.serve(server)
        _add_reflection(server)
        await server.start()
        watch = Watch(members, partial(_review, members, aggregation, gate), config.reload_s)
        stack.push_async_callback(_end, asyncio.create_task(watch.run()))
        metrics_port = await stack.enter_async_context(_shown(config, metrics, gate, members))
        yield Running(port, server, tasks, metrics, metrics_port, health, watch, aggregation)


def _review(members: Members, aggregation: AggregationService, gate: Gate) -> None:
    heap.settle(len(members.present.roster))
    aggregation.review(gate)


async def _end(work: "asyncio.Task[None]") -> None:
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


def _say_what_goes_on(config: ServerConfig, stored: Stored) -> None:
    if stored.tasks:
        running = sum(one.end is None for task in stored.tasks for one in task.rounds)
        _LOG.info("from %s: %d tasks are there again, %d rounds go on", str(config.state), len(stored.tasks), running)


@asynccontextmanager
async def _records(config: ServerConfig, spool: MemorySpool, health: Health) -> AsyncIterator[tuple[Records, Stored]]:
    if config.state is None:
        yield Forgetful(spool), Stored()
        return
    async with opened(config.state, spool, time, sync=config.fsync, failed=health.storage) as found:
        yield found


@asynccontextmanager
async def _shown(config: ServerConfig, metrics: Metrics, gate: Gate, members: Members) -> AsyncIterator[int]:
    """The metrics, where they are to be shown; the port, 0 for nowhere."""
    if config.metrics is None:
        yield 0
        return
    door: Door = Plain()
    if not config.insecure_loopback:
        door = Mutual(gate, lambda: members.present.identity, config.identity)
    async with exposed(config.metrics, metrics.registry, door) as port:
        yield port


def _host(members: Members, records: Records, cores: Cores, telemetry: RoundsTelemetry) -> Host:
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
        observe=telemetry.observe,
    )


def _keepalive(every_s: float) -> tuple[tuple[str, int], ...]:
    """Hospital firewalls cut lines that are silent for a minute or more: pings keep them open."""
    every_ms = round(every_s * 1000)
    return ("grpc.keepalive_time_ms", every_ms), ("grpc.keepalive_timeout_ms", every_ms)


def _milliseconds() -> int:
    """The wall clock as a round number, also after a restart: no round is shorter than a millisecond."""
    return time_ns() // 1_000_000


def _now() -> datetime:
    return datetime.now(UTC)


def _add_reflection(server: grpc.aio.Server) -> None:
    """Let any certificate of the consortium ask for the .proto's content, so that a client needs no file of ours."""
    reflection.enable_server_reflection((*SERVICES, HEALTH, reflection.SERVICE_NAME), server)
