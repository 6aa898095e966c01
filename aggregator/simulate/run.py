"""A whole simulation: certify the clients, start their processes, run the rounds here, and clean up."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from aggregator.cores import Cores
from aggregator.local import consortium, machine, updates
from aggregator.local.consortium import DEPLOYMENT, Members
from aggregator.local.processes import Child, ending, nursery
from aggregator.local.screen import Bar, Screen
from aggregator.protocol.context import RoundTerms, hash_model
from aggregator.protocol.graph import degree
from aggregator.protocol.spread import Each
from aggregator.rounds.phase import Completed, Failed, Setting
from aggregator.simulate import crowd
from aggregator.simulate.crowd import Invitation
from aggregator.simulate.outcome import Outcome, RoundOutcome
from aggregator.simulate.round import Process, Round, sent_most
from aggregator.simulate.settings import Settings
from aggregator.storage.spool import MemorySpool

TASK = "simulation"
UPDATES_FILE = "updates.npy"
PROCESSES = 2
STEPS = 5
NONCE_BYTES = 32


async def run(settings: Settings, screen: Screen) -> Outcome:
    """Run the simulation. Nothing is left of it afterwards, whatever happens.

    Raises:
        StorageError: the temporary directory cannot be written.
        Disconnected: a process ended that should not have; the screen shows the logs.
    """
    cores = Cores()
    try:
        with tempfile.TemporaryDirectory(prefix="sangam-simulate-") as name:
            rounds = await _simulate(settings, Path(name), screen, cores.each)
    finally:
        cores.close()
    threat = settings.parameters().threat
    return Outcome(settings, await machine.this(), degree(settings.clients, settings.clients, threat), rounds)


async def _simulate(settings: Settings, directory: Path, screen: Screen, each: Each) -> list[RoundOutcome]:
    with screen.stage(f"keys and certificates of {settings.clients:,} clients, in memory only"):
        members = consortium.certify(consortium.site_names("client", settings.clients), datetime.now(UTC))
    with screen.stage(f"updates of {settings.entries:,} values each"):
        updates.write(directory / UPDATES_FILE, settings.entries, settings.clients, settings.seed)
    children: list[Child] = []
    context = nursery(crowd.__name__)
    with ending(children, screen):
        with screen.stage(f"{PROCESSES} processes that hold the clients"):
            processes = []
            for one in _invitations(settings, members, directory):
                children.append(Child(context, one.directory.name, one.directory, crowd.main, one))
                processes.append(Process(children[-1], [number for number, _, _ in one.clients]))
            for process in processes:
                await process.hear()  # it has read all keys
        server = _Server(settings, members, directory, processes, each)
        answers, done = STEPS * settings.clients * settings.rounds, f"{settings.rounds} rounds"
        with screen.bar("answers", answers, done if settings.rounds > 1 else "one round") as bar:
            return await server.run(bar)


def _invitations(settings: Settings, members: Members, directory: Path) -> Iterator[Invitation]:
    """The clients, dealt out in turn."""
    authority, file = members.operator.authority.pem, directory / UPDATES_FILE
    for process in range(PROCESSES):
        own = directory / f"clients-{process + 1}"
        own.mkdir()
        numbered = list(enumerate(members.sites))[process::PROCESSES]
        mine = tuple((number, site.certificate.pem, site.key_pem) for number, site in numbered)
        yield Invitation(own, mine, authority, file, settings)


class _Server:
    """The rounds, one after the other, in this process."""

    def __init__(
        self, settings: Settings, members: Members, directory: Path, processes: Sequence[Process], each: Each
    ) -> None:
        self._settings = settings
        self._members = members
        self._directory = directory
        self._processes = processes
        self._each = each

    async def run(self, bar: Bar) -> list[RoundOutcome]:
        """Run them; a round that fails is the last."""
        done: list[RoundOutcome] = []
        while len(done) < self._settings.rounds and not (done and done[-1].failure):
            done.append(await self._round(len(done) + 1, bar))
        return done

    async def _round(self, number: int, bar: Bar) -> RoundOutcome:
        before = machine.resident_bytes()
        machine.reset_peak()
        round_ = Round(self._setting(number), self._processes, bar)
        end = await round_.run()
        peak = machine.peak_bytes()
        survivors = end.survivors if isinstance(end, Completed) else ()
        return RoundOutcome(
            failure=end.reason if isinstance(end, Failed) else "",
            exact=isinstance(end, Completed) and self._is_exact(number, end),
            seconds=sum(round_.step_s.values()),
            step_s=round_.step_s,
            survivors=len(survivors),
            before_bytes=before,
            peak_bytes=peak,
            sent_bytes=sent_most(round_.sent_bytes, survivors),
        )

    def _is_exact(self, number: int, end: Completed) -> bool:
        files = [crowd.words_file(self._directory / process.child.name, number) for process in self._processes]
        return updates.is_exact(end.total, end.survivors, self._settings.survivors(number), files)

    def _setting(self, number: int) -> Setting:
        roster = self._members.roster
        terms = RoundTerms(
            deployment=DEPLOYMENT,
            task=TASK,
            round=number,
            server_nonce=os.urandom(NONCE_BYTES),
            roster_size=len(roster),
            roster_root=roster.root,
            authority_hash=self._members.operator.authority.fingerprint,
            model_hash=hash_model({"round": np.array([number])}),
            parameters=self._settings.parameters(),
        )
        return Setting(terms, roster, roster.to_bytes(), MemorySpool(), self._each)
