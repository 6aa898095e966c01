"""A whole run: measure a client alone, found a consortium, start its processes, race, and clean up."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.context import ForkServerContext
from pathlib import Path

from aggregator.bench import cost, disk, server, worker
from aggregator.bench.job import Job, Processes
from aggregator.bench.outcome import Outcome
from aggregator.bench.server import Serving
from aggregator.bench.settings import TASK, Kind, Settings
from aggregator.bench.worker import Invitation
from aggregator.config import ServerConfig
from aggregator.crypto.identity import Identity
from aggregator.local import consortium, machine, updates
from aggregator.local.consortium import HOST, Consortium
from aggregator.local.parties import start as start_parties
from aggregator.local.processes import Child, ending, nursery
from aggregator.local.screen import Screen
from aggregator.local.updates import Updates
from clients.operator import Operator, operate
from clients.transport import GrpcChannel

UPDATES_FILE = "updates.npy"
STATE = "state"
PRELOADED = (server.__name__, worker.__name__)


async def run(settings: Settings, screen: Screen) -> Outcome:
    """Run the whole benchmark. Nothing is left of it afterwards, whatever happens.

    Raises:
        StorageError: a file cannot be written.
        RoundAborted: a round failed.
        Disconnected: a process ended that should not have; the screen shows the logs.
    """
    with tempfile.TemporaryDirectory(prefix="sangam-bench-") as name:
        directory = Path(name)
        with screen.stage(f"updates of {settings.clients} clients, {settings.entries:,} values each"):
            updates.write(directory / UPDATES_FILE, settings.entries, settings.clients)
        shared = Updates(directory / UPDATES_FILE, settings.entries)
        with screen.stage("a throw-away consortium: authority, certificates, signed roster"):
            names = consortium.site_names("client", settings.clients)
            members = consortium.found(directory, names, datetime.now(UTC))
        idle_bytes, job = await _race(settings, members, shared, screen)
        client_s = measured = None
        if settings.durable:
            with screen.stage("the disk alone: as many bytes, each file forced to it"):
                plan = settings.parameters().upload_plan
                measured = disk.measure(directory, plan.payload_bytes, settings.survivors)
        if Kind.SECURE in settings.rounds:  # now that nothing else runs
            with screen.stage("one client alone: quantise and blind, on all cores"):
                client_s = cost.client_seconds(settings, shared.of(0))
    secure, durable = job.secure[Kind.SECURE], job.secure[Kind.DURABLE]
    return Outcome(settings, await machine.this(), idle_bytes, job.plain, secure, client_s, durable, measured)


@dataclass(frozen=True, slots=True)
class _Hub:
    """A server that runs."""

    kinds: frozenset[Kind]
    process: Child
    address: str
    idle_bytes: int


async def _race(settings: Settings, members: Consortium, shared: Updates, screen: Screen) -> tuple[int, Job]:
    children: list[Child] = []
    context = nursery(*PRELOADED)
    with ending(children, screen):
        with screen.stage("servers, and the processes that hold the clients"):
            hubs = [await _serve(context, one, children) for one in _servings(settings, members)]
            addresses = {kind: hub.address for hub in hubs for kind in hub.kinds}
            invitations = list(_invitations(settings, members, addresses))
            workers = [Child(context, one.directory.name, one.directory, worker.main, one) for one in invitations]
            children.extend(workers)
            for hub in hubs:
                children.extend(_parties(context, settings, members, hub))
        async with AsyncExitStack() as stack:
            channel = GrpcChannel(hubs[0].address, Identity.load(members.operator))
            stack.push_async_callback(channel.close)
            operators: dict[Kind, Operator] = {
                kind: await stack.enter_async_context(_operator(settings, members, addresses[kind]))
                for kind in dict.fromkeys(settings.rounds)
                if kind is not Kind.PLAIN
            }
            servers = {kind: hub.process for hub in hubs for kind in hub.kinds}
            sizes = [len(one.clients) for one in invitations]
            processes = Processes(servers, workers, [one.directory for one in invitations], sizes)
            job = Job(settings, members.sites, operators, channel, processes=processes, updates=shared)
            with screen.bar("rounds", len(settings.rounds), f"{len(settings.rounds)} rounds") as bar:
                await job.run(bar)
    return hubs[0].idle_bytes, job


def _servings(settings: Settings, members: Consortium) -> Iterator[Serving]:
    """One server that keeps nothing; if durability is asked for, another one that does."""
    config = ServerConfig(f"{HOST}:0", members.aggregator, members.roster)
    yield Serving(config, settings, frozenset({Kind.PLAIN, Kind.SECURE}))
    if settings.durable:
        yield Serving(replace(config, state=members.directory / STATE), settings, frozenset({Kind.DURABLE}))


async def _serve(context: ForkServerContext, serving: Serving, children: list[Child]) -> _Hub:
    name = "the durable server" if Kind.DURABLE in serving.kinds else "the server"
    process = Child(context, name, serving.config.identity, server.main, serving)
    children.append(process)
    first = await process.expect("port")
    return _Hub(serving.kinds, process, f"{HOST}:{first['port']}", int(first["idle"]))


def _parties(context: ForkServerContext, settings: Settings, members: Consortium, hub: _Hub) -> Iterator[Child]:
    """Key holder and auditor of one server, with ledgers of their own."""
    parties = settings.parameters().parties
    if parties is None or settings.mode == Kind.PLAIN:
        return
    own = members
    if Kind.DURABLE in hub.kinds:
        own = replace(members, directory=members.directory / str(Kind.DURABLE))
        for name in parties.names.values():
            shutil.copytree(members.directory / name, own.directory / name, ignore=shutil.ignore_patterns("*.json"))
    yield from start_parties(context, own, parties, hub.address, TASK)


@asynccontextmanager
async def _operator(settings: Settings, members: Consortium, address: str) -> AsyncIterator[Operator]:
    async with operate(address, members.operator) as operator:
        # clients that fetched the result would be in each other's way
        await operator.create_task(
            TASK, settings.parameters(), deadlines=settings.deadlines, result_to_operator_only=True
        )
        yield operator


def _invitations(settings: Settings, members: Consortium, addresses: Mapping[Kind, str]) -> Iterator[Invitation]:
    """The clients, dealt out in turn, so that those that vanish are spread over the processes."""
    count = min(settings.client_processes, settings.clients)
    for process in range(count):
        directory = members.directory / f"clients-{process + 1}"
        directory.mkdir()
        mine = tuple((client, members.site(client)) for client in range(process, settings.clients, count))
        yield Invitation(directory, mine, addresses, members.directory / UPDATES_FILE, settings)
