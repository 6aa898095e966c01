"""A real server on loopback over mutual TLS, and sites that join it; ports are the system's choice.

    async with hub(tmp_path, 4) as h:
        run = await h.run_round({0: ({"x": x0}, 10), 1: ({"x": x1}, 20), ...})
    run.results[c]     what client c got: a RoundResult, or the error that ended it
    run.operator       the same for the operator
    run.watchers[c]    the steps and vectors that client c saw on its own machine
    run.events         what the operator watched

A line that breaks, or a proxy: `tests.cable`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
class Watcher(clients.Observer):
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
                transport = (wrap or (lambda same: same))(GrpcTransport(lambda: channel))
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
