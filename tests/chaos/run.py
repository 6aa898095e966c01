"""The whole run: found a consortium, start and keep its processes, run rounds, let things go wrong, judge."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.context import ForkServerContext
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

from aggregator.config import ServerConfig
from aggregator.crypto import custody
from aggregator.errors import Equivocation, StorageError
from aggregator.local import consortium, parties
from aggregator.local.consortium import HOST, PARTIES, Consortium
from aggregator.local.parties import Post
from aggregator.local.processes import nursery
from aggregator.local.screen import Bar, Screen
from aggregator.local.tolerance import tolerance
from aggregator.protocol.parties import KEY_HOLDER
from aggregator.storage.audit import AUDIT_FILE, verify
from aggregator.storage.state import RESULTS, SPOOL
from clients.operator import Operator, operate
from tests.cable import Cable
from tests.chaos import hub, site
from tests.chaos.disk import Disk, small_disk
from tests.chaos.evidence import Evidence
from tests.chaos.faults import Faults
from tests.chaos.keeper import Kept
from tests.chaos.lane import Lane
from tests.chaos.recovery import Recovery
from tests.chaos.site import Invitation
from tests.chaos.tally import NUMBER, Tally
from tests.chaos.work import DEADLINES, HOMOMORPHIC, LANES, PATIENCE_S, RESULTS_KEPT, Study

STOPPED_WITHIN_S: Final = 30.0
SERVER, SITE, OPERATOR = "server", "site", "operator"
ENTERED: Final = "was already entered"  # by a process of this site that was killed


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is asked for.

    Args:
        kills: how many, at least.
        seed: of all that is drawn.
        sites: how many.
        between_s: the mean time between two faults, seconds.
        mounts: whether to mount a small disk, where that is allowed.
    """

    kills: int
    seed: int
    sites: int = 10
    between_s: float = 1.0
    mounts: bool = True


async def run(settings: Settings, screen: Screen) -> tuple[Tally, str]:
    """Run it all; what was counted, and the JSON line. Nothing stays on this machine's disk."""
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="sangam-chaos-"))
        disk = stack.enter_context(small_disk(Path(name) / "disk", mounts=settings.mounts))
        with screen.stage("a throw-away consortium: authority, certificates, signed roster"):
            names = consortium.site_names("hospital", settings.sites)
            members = consortium.found(Path(name) / "consortium", names, datetime.now(UTC))
        scene = Scene(settings, members, disk, Evidence(Path(name) / "evidence"), screen)
        await scene.play()
        return scene.tally, scene.tally.line(seed=settings.seed, sites=settings.sites, disk=disk.kind)


class Scene:
    """Everybody, and what happens to them. `tally` is what came of it."""

    def __init__(self, settings: Settings, members: Consortium, disk: Disk, evidence: Evidence, screen: Screen) -> None:
        self.tally = Tally()
        self._settings = settings
        self._members = members
        self._disk = disk
        self._state = disk.directory / "state"
        self._evidence = evidence
        self._screen = screen
        self._recovery = Recovery(self.tally, monotonic)
        self._cables: dict[str, Cable] = {}
        self._listening = asyncio.Event()
        self._bar: Bar | None = None
        self._faults: Faults | None = None
        self._lanes: list[Lane] = []

    async def play(self) -> None:
        """From the first start to the last look."""
        self._evidence.directory.mkdir()
        context = nursery(site.__name__, hub.__name__)
        async with AsyncExitStack() as stack:
            for name in (*self._members.sites, *PARTIES.names.values(), OPERATOR):
                self._cables[name] = await stack.enter_async_context(Cable(0))
            server = self._hub = self._server(context)
            running = await stack.enter_async_context(self._kept(server))
            await self._listening.wait()
            operator = await stack.enter_async_context(
                operate(self._address(OPERATOR), self._members.operator, patience_s=PATIENCE_S)
            )
            await self._create_tasks(operator)
            others = [*self._sites(context), *self._parties(context)]
            with self._screen.stage(f"{len(others)} more processes, each with its own key"):
                for one in others:
                    await stack.enter_async_context(self._kept(one))
            lanes = await self._make_trouble(operator, server, others)
            for lane in lanes:
                await lane.look_again()
            await self._stop(server, running)
        self._look_at_files()

    async def _make_trouble(self, operator: Operator, server: Kept, others: list[Kept]) -> list[Lane]:
        settings, count = self._settings, self._settings.sites
        self._lanes = [self._lane(operator, index, studies) for index, studies in enumerate(LANES)]
        self._faults = Faults(
            Random(f"{settings.seed}"),
            settings.between_s,
            server,
            others[:count],
            others[count:],
            self._cables,
            self._disk,
            self.tally,
            self._recovery,
            self._bears,
        )

        def enough() -> bool:
            return self.tally.kills.total() >= settings.kills or self.tally.hopeless

        with self._screen.bar("kills", settings.kills, f"{settings.kills} kills, seed {settings.seed}") as bar:
            self._bar = bar
            async with asyncio.TaskGroup() as group:
                group.create_task(self._faults.run(enough))
                for lane in self._lanes:
                    group.create_task(lane.run(enough))
        return self._lanes

    def _lane(self, operator: Operator, index: int, studies: Sequence[Study]) -> Lane:
        draws = Random(f"{self._settings.seed}/lane {index}")
        return Lane(operator, studies, self._evidence, self.tally, self._recovery, draws, self._say)

    def _bears(self, name: str) -> bool:
        most = tolerance(self._settings.sites, "sites")
        return all(len(lane.fallen - set(PARTIES.names.values()) | {name}) <= most for lane in self._lanes)

    def _say(self, where: str) -> None:
        tally = self.tally
        assert self._bar is not None
        self._bar.say(f"{tally.completed} of {tally.rounds} rounds  {where}")

    async def _create_tasks(self, operator: Operator) -> None:
        sites = self._settings.sites
        for study in (study for lane in LANES for study in lane):
            await operator.create_task(
                study.name, study.parameters(sites), deadlines=DEADLINES, opening=study.opening(sites)
            )

    @asynccontextmanager
    async def _kept(self, one: Kept) -> AsyncIterator["asyncio.Task[None]"]:
        running = asyncio.create_task(one.run())
        try:
            yield running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _server(self, context: ForkServerContext) -> Kept:
        members = self._members
        config = ServerConfig(f"{HOST}:0", members.aggregator, members.roster, state=self._state)

        def starting(_: int) -> ServerConfig:
            self._recovery.starting()
            return config

        return Kept(context, SERVER, members.aggregator, hub.main, starting, self._ended, self._heard)

    def _sites(self, context: ForkServerContext) -> list[Kept]:
        studies = tuple(study for lane in LANES for study in lane)
        made = []
        for index, name in enumerate(self._members.sites):

            def invitation(starts: int, index: int = index, name: str = name) -> Invitation:
                seed = f"{self._settings.seed}/{name}/{starts}"
                directory = self._members.site(index)
                return Invitation(name, directory, self._address(name), studies, self._evidence.directory, seed)

            made.append(Kept(context, name, self._members.site(index), site.main, invitation, self._ended))
        return made

    def _parties(self, context: ForkServerContext) -> list[Kept]:
        made = []
        for number, name in PARTIES.names.items():
            directory = self._members.directory / name
            if number == KEY_HOLDER:
                custody.write(directory, custody.split(parties.THRESHOLD, parties.CUSTODIANS, os.urandom))
            post = Post(directory, self._address(name), HOMOMORPHIC, number)
            made.append(Kept(context, name, directory, parties.main, lambda _, post=post: post, self._ended))
        return made

    def _address(self, name: str) -> str:
        return f"{HOST}:{self._cables[name].port}"

    def _heard(self, message: dict[str, Any]) -> None:
        """The server listens."""
        for cable in self._cables.values():
            cable.target = message["port"]
        self._recovery.listening()
        self.tally.rss_bytes.append(resident_bytes(self._hub.pid))
        self._listening.set()

    def _ended(self, one: Kept, code: int) -> None:
        kind = SITE if one.name in self._members.sites else one.name
        if code == -signal.SIGKILL:
            self.tally.kills[kind] += 1
            for lane in self._lanes if one.name != SERVER else ():
                lane.fallen.add(one.name)
            if self._bar is not None:
                self._bar.advance()
        elif one.name == SERVER and code in (0, -signal.SIGTERM):
            pass
        elif one.name == SERVER and self._faults is not None and self._faults.full_lately:
            self.tally.faults["server's start failed, disk full"] += 1
        else:
            self.tally.crashes.append(f"{one.name} ended by itself with {code}")
            self._screen.log(f"{one.name}, which ended by itself with {code},", one.last_words)

    async def _stop(self, server: Kept, running: "asyncio.Task[None]") -> None:
        """As an operator of the machine stops it; then its files are looked at."""
        server.keep = False
        server.signal(signal.SIGTERM)
        async with asyncio.timeout(STOPPED_WITHIN_S):
            await running

    def _look_at_files(self) -> None:
        tally, state = self.tally, self._state
        try:
            verify((state / AUDIT_FILE).read_text().splitlines())
        except StorageError as error:
            tally.lost.append(f"the audit log is broken: {error}")
        left = [path for path in (state / SPOOL).rglob("*") if path.is_file()]
        for task in (state / RESULTS).iterdir():
            left += sorted(task.iterdir())[RESULTS_KEPT:]
        tally.left += [str(path.relative_to(state)) for path in left]
        for complaint in self._evidence.lines("errors"):
            tally.site_errors[NUMBER.sub("N", complaint)] += 1
            if complaint.startswith(Equivocation.__name__) and ENTERED not in complaint:
                tally.alarms.append(f"a site says: {complaint}")
        tally.faults.update(self._evidence.lines("repeats"))
        for sentence in tally.failures:
            self._screen.console.print(sentence, markup=False, highlight=False)


def resident_bytes(pid: int) -> int:
    """Of a process, from Linux's /proc; 0 where there is none."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
