"""A whole run: measure a client alone, found a consortium, start its processes, race, and clean up."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from aggregator.bench import cost, server, worker
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
from clients.operator import operate
from clients.transport import GrpcChannel

UPDATES_FILE = "updates.npy"
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
        client_s = None
        if Kind.SECURE in settings.rounds:  # now that nothing else runs
            with screen.stage("one client alone: quantise and blind, on all cores"):
                client_s = cost.client_seconds(settings, shared.of(0))
    return Outcome(settings, await machine.this(), idle_bytes, job.plain, job.secure, client_s)


async def _race(settings: Settings, members: Consortium, shared: Updates, screen: Screen) -> tuple[int, Job]:
    children: list[Child] = []
    context = nursery(*PRELOADED)
    with ending(children, screen):
        with screen.stage("a server, and the processes that hold the clients"):
            config = ServerConfig(f"{HOST}:0", members.aggregator, members.roster)
            children.append(Child(context, "the server", members.aggregator, server.main, Serving(config, settings)))
            first = await children[0].expect("port")
            address = f"{HOST}:{first['port']}"
            invitations = list(_invitations(settings, members, address))
            for one in invitations:
                children.append(Child(context, one.directory.name, one.directory, worker.main, one))
            parties = settings.parameters().parties
            if parties is not None:
                children.extend(start_parties(context, members, parties, address, TASK))
        channel = GrpcChannel(address, Identity.load(members.operator))
        try:
            async with operate(address, members.operator) as operator:
                if Kind.SECURE in settings.rounds:
                    parameters = settings.parameters()
                    # clients that fetched the result would be in each other's way
                    deadlines = settings.deadlines
                    await operator.create_task(TASK, parameters, deadlines=deadlines, result_to_operator_only=True)
                sizes = [len(one.clients) for one in invitations]
                workers = children[1 : 1 + len(invitations)]
                processes = Processes(children[0], workers, [one.directory for one in invitations], sizes)
                job = Job(settings, members.sites, operator, channel, processes=processes, updates=shared)
                with screen.bar("rounds", len(settings.rounds), f"{len(settings.rounds)} rounds") as bar:
                    await job.run(bar)
        finally:
            await channel.close()
    return int(first["idle"]), job


def _invitations(settings: Settings, members: Consortium, address: str) -> Iterator[Invitation]:
    """The clients, dealt out in turn, so that those that vanish are spread over the processes."""
    count = min(settings.client_processes, settings.clients)
    for process in range(count):
        directory = members.directory / f"clients-{process + 1}"
        directory.mkdir()
        mine = tuple((client, members.site(client)) for client in range(process, settings.clients, count))
        yield Invitation(directory, mine, address, members.directory / UPDATES_FILE, settings)
