"""A real server on loopback over mutual TLS, and sites that join it; ports are the system's choice.

    async with hub(tmp_path, 4) as h:
        run = await h.run_round({0: ({"x": x0}, 10), 1: ({"x": x1}, 20), ...})
    run.results[c]     what client c got: a RoundResult, or the error that ended it
    run.operator       the same for the operator
    run.watchers[c]    the steps and vectors that client c saw on its own machine
    run.events         what the operator watched

A `Cable` is a TCP proxy before the server: tests cut it, or let it carry only so many bytes.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

import clients
from aggregator.config import ServerConfig
from aggregator.crypto import authority as authorities
from aggregator.crypto.certificates import Role
from aggregator.crypto.identity import Identity
from aggregator.errors import SangamError
from aggregator.protocol.encoding import RingVector, Update
from aggregator.protocol.parameters import Mode, Parameters
from aggregator.service.app import Running, Service, serve
from aggregator.wire.messages import Tensor
from aggregator.wire.operator_messages import Deadlines, RoundEvent
from clients.credentials import Credentials
from clients.journal import Journal
from clients.session import Session
from clients.transport import GrpcChannel, GrpcTransport, Transport
from tests.consortium import ANY_COHORT, DEPLOYMENT, TASK, Consortium

YEAR = timedelta(days=365)
TOO_LONG_S = 20.0  # a test that hangs fails; none waits for this
PATIENT = Deadlines(60.0, 60.0, 60.0, 60.0, 60.0, 60.0)
BRISK = Deadlines(60.0, 60.0, 60.0, 60.0, 60.0, 0.0)  # a broken line is not waited for

Offer: TypeAlias = tuple[Update, int]


def parameters(shape: tuple[int, ...] = (4,), **changes: Any) -> Parameters:
    """One tensor `x`, up to ten clients, at least two; pairwise unless said."""
    fields: dict[str, Any] = {
        "tensors": (Tensor("x", shape),),
        "clip": 4.0,
        "clients_max": 10,
        "minimum_cohort": 2,
        "weight_max": 100,
        "mode": Mode.PAIRWISE,
    }
    return Parameters(**{**fields, **changes})


def offers(n: int, shape: tuple[int, ...] = (4,), seed: int = 0) -> dict[int, Offer]:
    """An update within the clip and a weight for each of n clients."""
    rng = np.random.default_rng(seed)
    return {client: ({"x": rng.uniform(-3, 3, shape)}, 10 + client) for client in range(n)}


def weighted_mean(offered: Mapping[int, Offer], survivors: Any, name: str = "x") -> Any:
    """What secure averaging should give, in float64."""
    total = sum(offered[c][1] for c in survivors)
    return sum(np.asarray(offered[c][0][name]) * offered[c][1] for c in survivors) / total


@cache
def issued(name: str, role: Role, hosts: tuple[str, ...] = (), *, days: int = 365, starts: int = -1) -> Identity:
    """An identity of the tests' consortium that is not in its roster."""
    authority = Consortium.of(0).authority
    key, request = authorities.request(name, role, DEPLOYMENT, hosts)
    begin = datetime.now(UTC) + timedelta(days=starts)
    certificate = authorities.issue(authority, request, begin, valid_for=timedelta(days=days), role=role)
    return Identity(certificate, key, authority.certificate)


def aggregator() -> Identity:
    return issued("hub", Role.AGGREGATOR, ("localhost",))


def operator() -> Identity:
    return issued("operator", Role.OPERATOR)


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop run until something holds; no clock."""
    for _ in iter(condition, True):
        await asyncio.sleep(0)


class Vanished(Exception):
    """A client's process died."""


def ignore(step: str) -> None:
    """Nothing happens at this step."""


@dataclass
class Watcher:
    """An observer that keeps what it sees, and that may end its client at one step: by death, or by a named error."""

    dies_at: str = ""
    refuses_at: str = ""
    calls: Callable[[str], None] = ignore
    steps: list[str] = field(default_factory=list)
    encoded: RingVector | None = None

    def step(self, name: str) -> None:
        self.steps.append(name)
        self.calls(name)
        if name == self.dies_at:
            raise Vanished(name)
        if name == self.refuses_at:
            raise SangamError(f"not beyond {name}")

    def vectors(self, encoded: RingVector, payload: memoryview) -> None:
        self.encoded = encoded.copy()


@dataclass
class Run:
    """How one round went for all concerned."""

    number: int = 0
    results: dict[int, Any] = field(default_factory=dict)
    operator: Any = None
    events: list[RoundEvent] = field(default_factory=list)
    watchers: dict[int, Watcher] = field(default_factory=dict)

    def told(self, kind: str) -> list[tuple[str, str]]:
        """(client, step) of the events of one kind."""
        return [(event.client, event.step) for event in self.events if event.kind == kind]

    def plain_sum(self, survivors: Any, ring_bits: int) -> list[int]:
        """The sum of the survivors' own encodings, in plain integers."""
        columns = zip(*(self.watchers[c].encoded.tolist() for c in survivors), strict=True)
        return [sum(column) % 2**ring_bits for column in columns]


@dataclass
class Hub:
    """A running server, and how to come to it."""

    port: int
    consortium: Consortium
    directory: Path
    operator: clients.Operator
    calls: GrpcChannel  # the operator's raw calls
    running: Running

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def journal(self, client: int) -> Path:
        """Where this client's journal is."""
        return self.directory / f"journal-{client}.sqlite"

    @asynccontextmanager
    async def join(
        self,
        client: int,
        *,
        port: int | None = None,
        wrap: Callable[[Transport], Transport] | None = None,
        entropy: Callable[[int], bytes] | None = None,
        **options: Any,
    ) -> AsyncIterator[Session]:
        """A session of one participant; `wrap` puts something between it and the line."""
        who = self.consortium.identities[client]
        address = f"localhost:{port or self.port}"
        options.setdefault("task", TASK)
        if wrap is None and entropy is None:
            options = {"safeguards": ANY_COHORT, "journal": self.journal(client)} | options
            async with clients.connect(address, who, **options) as session:
                yield session
            return
        async with raw(address, who) as channel:
            with Journal(self.journal(client)) as journal:
                transport = (wrap or (lambda same: same))(GrpcTransport(channel))
                more = options | ({"entropy": entropy} if entropy else {})
                session = Session(transport, Credentials(self.consortium.site(client)), journal, **more)
                try:
                    await session.open()
                    yield session
                finally:
                    await session.close()

    async def create(self, spec: Parameters, deadlines: Deadlines = BRISK, task: str = TASK, **options: Any) -> None:
        await self.operator.create_task(task, spec, deadlines=deadlines, **options)

    async def run_round(
        self,
        offered: Mapping[int, Offer],
        *,
        dies: Mapping[int, str] | None = None,
        refuses: Mapping[int, str] | None = None,
        calls: Mapping[int, Callable[[str], None]] | None = None,
        how: Mapping[int, Mapping[str, Any]] | None = None,
        base: Update | None = None,
        task: str = TASK,
    ) -> Run:
        """One round of a task: each client joins, contributes and leaves.

        Args:
            offered: update and weight of each client that joins.
            dies: the step that kills a client.
            refuses: the step in which a client withdraws with a named error.
            calls: run with the name of each step that a client enters.
            how: options of `join`, for each client.
            base: the model that all start from.
            task: whose round.
        """
        deaths, refusals, acts = dies or {}, refuses or {}, calls or {}
        watchers = {c: Watcher(deaths.get(c, ""), refusals.get(c, ""), acts.get(c, ignore)) for c in offered}
        run = Run(watchers=watchers)
        joined = asyncio.Barrier(len(offered) + 1)

        async def take_part(client: int) -> Any:
            async with AsyncExitStack() as stack:
                try:
                    opening = self.join(client, task=task, **(how or {}).get(client, {}))
                    session = await stack.enter_async_context(opening)
                except BaseException:
                    await joined.abort()  # nobody waits for a client that cannot join
                    raise
                await joined.wait()
                update, weight = offered[client]
                return await session.contribute(update, weight=weight, base=base, observer=run.watchers[client])

        async def lead() -> Any:
            await joined.wait()
            run.number = await self.operator.start_round(task, base=base)
            async for event in self.operator.watch(task, run.number):
                run.events.append(event)
            return await self.operator.fetch_result(task, run.number)

        ends = await asyncio.gather(lead(), *(take_part(c) for c in offered), return_exceptions=True)
        run.operator, run.results = ends[0], dict(zip(offered, ends[1:], strict=True))
        return run


@asynccontextmanager
async def raw(address: str, who: Identity) -> AsyncIterator[GrpcChannel]:
    """A channel for calls that no SDK would make."""
    channel = GrpcChannel(address, who)
    try:
        yield channel
    finally:
        await channel.close()


def configured(directory: Path, consortium: Consortium, **config: Any) -> ServerConfig:
    """A server's files, and its configuration."""
    home, roster = directory / "hub", directory / "roster.json"
    if not home.exists():
        aggregator().save(home)
        roster.write_bytes(consortium.roster.to_bytes())
    return ServerConfig(**{"address": "localhost:0", "identity": home, "roster": roster} | config)


@asynccontextmanager
async def hub(directory: Path, n: int, *, further: Sequence[Service] = (), **config: Any) -> AsyncIterator[Hub]:
    """A server for a roster of n participants, perhaps with further services, and an operator at it."""
    consortium = Consortium.of(n)
    async with asyncio.timeout(TOO_LONG_S), AsyncExitStack() as stack:
        running = await stack.enter_async_context(serve(configured(directory, consortium, **config), further))
        address = f"localhost:{running.port}"
        leader = await stack.enter_async_context(clients.operate(address, operator()))
        calls = await stack.enter_async_context(raw(address, operator()))
        yield Hub(running.port, consortium, directory, leader, calls, running)


def check_mean(run: Run, offered: Mapping[int, Offer], survivors: Sequence[int], ring_bits: int) -> None:
    """All survivors and the operator got one result: the exact sum, and the mean within its bound."""
    got = run.operator
    assert isinstance(got, clients.RoundResult), got
    assert got.words.tolist() == run.plain_sum(survivors, ring_bits)
    assert got.total_weight == sum(offered[c][1] for c in survivors)
    assert got.participants == tuple(f"site-{c:04}" for c in sorted(survivors))
    assert 0 < np.abs(got.mean["x"] - weighted_mean(offered, survivors)).max() <= got.error_bound
    for client in survivors:
        result = run.results[client]
        assert isinstance(result, clients.RoundResult), (client, result)
        assert np.array_equal(result.words, got.words)
        assert np.array_equal(result.mean["x"], got.mean["x"])
        assert (result.participants, result.total_weight) == (got.participants, got.total_weight)


class Cable:
    """A TCP proxy to a server's port; used as an async context.

    Args:
        port: the server's.
        connect: be a proxy that a client has to ask for its server (HTTP CONNECT).
        idle_s: cut a connection over which nothing went for so long; 0 is never.
    """

    def __init__(self, port: int, *, connect: bool = False, idle_s: float = 0.0) -> None:
        self._target = port
        self._connect = connect
        self._idle_s = idle_s
        self._ends: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.upward_bytes = 0
        self.downward_bytes = 0
        self.upward_cuts: deque[int] = deque()  # each time so many bytes have gone up, the line breaks
        self.downward_cuts: deque[int] = deque()
        self.cuts = 0
        self.asked: list[str] = []  # for which server
        self.refusing = False
        self.refused = asyncio.Event()
        self.idled = asyncio.Event()

    async def __aenter__(self) -> "Cable":
        self._server = await asyncio.start_server(self._carry, "localhost", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Break every connection that runs over this cable; new ones work."""
        self.cuts += 1
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connect and not await self._may_connect(reader, writer):
            return
        if self.refusing:
            writer.transport.abort()
            self.refused.set()
            return
        far_reader, far_writer = await asyncio.open_connection("localhost", self._target)
        self._ends |= {writer, far_writer}
        line = _Idle(self._idle_s, self._cut_idle)
        for pump in (self._pump(reader, far_writer, line, up=True), self._pump(far_reader, writer, line, up=False)):
            task = asyncio.create_task(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _may_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer an HTTP CONNECT; what it asks for is written down, and it gets the one server behind this cable."""
        with suppress(OSError, asyncio.IncompleteReadError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode().split()
            self.asked.append(request[1] if request[0] == "CONNECT" else "")
            writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n" if self.refusing else b"HTTP/1.1 200 OK\r\n\r\n")
            await writer.drain()
            if not self.refusing:
                return True
            self.refused.set()
        writer.close()
        return False

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: "_Idle", *, up: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                line.moved()
                if self._breaks_after(len(data), up):
                    self.cut()
                    return
                writer.write(data)
                await writer.drain()
        line.end()
        writer.close()

    def _breaks_after(self, size: int, up: bool) -> bool:
        if up:
            self.upward_bytes += size
        else:
            self.downward_bytes += size
        cuts, gone = (self.upward_cuts, self.upward_bytes) if up else (self.downward_cuts, self.downward_bytes)
        if not cuts or gone < cuts[0]:
            return False
        cuts.popleft()
        return True

    def _cut_idle(self) -> None:
        self.idled.set()
        self.cut()


class _Idle:
    """Calls `cut` when nothing has moved for `idle_s`."""

    def __init__(self, idle_s: float, cut: Callable[[], None]) -> None:
        self._idle_s = idle_s
        self._cut = cut
        self._watch: asyncio.TimerHandle | None = None
        self.moved()

    def moved(self) -> None:
        self.end()
        if self._idle_s:
            self._watch = asyncio.get_running_loop().call_later(self._idle_s, self._cut)

    def end(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
