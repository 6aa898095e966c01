"""One run: found a consortium, start everybody, run one round, and see what has become of it."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from aggregator.config import ServerConfig
from aggregator.local import consortium, updates
from aggregator.local.consortium import HOST, Consortium
from aggregator.local.processes import Child, ending, nursery
from aggregator.local.screen import Screen
from aggregator.local.steps import step_seconds
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind, Step
from benchmarks.crowd import process, server
from benchmarks.crowd.process import LEAVE_FIRST, LEAVE_LAST, Invitation
from benchmarks.crowd.settings import TASK, UPLOADING, Conduct, Settings
from clients.operator import Operator, operate
from clients.result import RoundResult

LONGEST_S = 600.0
PRELOADED = (server.__name__, process.__name__)


@dataclass(slots=True)
class Course:
    """How the round went, from its events; says who may leave when."""

    settings: Settings
    events: list[RoundEvent] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    said: int = -1

    def take(self, event: RoundEvent) -> int:
        """One event; up to which number the processes are told."""
        self.events.append(event)
        if event.kind == EventKind.ANSWERED:
            self.answered[event.step] += 1
        if self.settings.waits:
            self.said = max(self.said, self._step_reached(event))
        elif self.answered[Step.MASKED_INPUT] >= self.settings.count(Conduct.HONEST):
            self.said = LEAVE_LAST
        elif self.answered[Step.ADVERTISE_KEYS] >= self.settings.count(*UPLOADING):
            self.said = max(self.said, LEAVE_FIRST)
        return self.said

    def _step_reached(self, event: RoundEvent) -> int:
        if event.step in {Step.CONSISTENCY_CHECK, Step.UNMASKING}:
            return LEAVE_LAST
        return LEAVE_FIRST if event.step in {Step.SHARE_KEYS, Step.MASKED_INPUT} else self.said


async def run(settings: Settings, screen: Screen) -> dict[str, Any]:
    """One run's figures; nothing is left of it afterwards, whatever happens."""
    load = settings.workload
    with tempfile.TemporaryDirectory(prefix="sangam-crowd-") as name:
        directory = Path(name)
        updates.write(directory / "updates.npy", load.entries, load.clients)
        members = consortium.found(directory, consortium.site_names("client", load.clients), datetime.now(UTC))
        children: list[Child] = []
        with ending(children, screen):
            return await _crowd(settings, members, children)


async def _crowd(settings: Settings, members: Consortium, children: list[Child]) -> dict[str, Any]:
    context = nursery(*PRELOADED)
    config = ServerConfig(
        f"{HOST}:0",
        members.aggregator,
        members.roster,
        staging_bytes=settings.staging_bytes,
        spool_bytes=settings.spool_bytes,
        staging_directory=members.directory,
    )
    hub = Child(context, "the server", members.aggregator, server.main, config)
    children.append(hub)
    first = await hub.expect("port")
    address = f"{HOST}:{first['port']}"
    async with operate(address, members.operator) as operator:
        spec = settings.workload.parameters()
        await operator.create_task(TASK, spec, deadlines=settings.deadlines, result_to_operator_only=True)
        invitations = list(_invitations(settings, members, address))
        guests = [Child(context, one.directory.name, one.directory, process.main, one) for one in invitations]
        children.extend(guests)
        for guest in guests:
            await guest.expect("connected", LONGEST_S)
        course, result = await _round(operator, settings, guests)
        for guest in guests:
            guest.tell(process.END)
        told = [await guest.expect("done", LONGEST_S) for guest in guests]
        hub.tell(server.PEAK)
        peak = (await hub.expect("peak", LONGEST_S))["peak"]
    steps = step_seconds(course.events)
    counts = sum((Counter(one) for one in told), Counter[str]())
    return {
        "mode": settings.workload.mode,
        "clients": settings.workload.clients,
        "honest": settings.count(Conduct.HONEST),
        "summed": len(result.participants),
        "completed": counts.pop("done", 0),
        "exact": _is_exact(result, members, invitations),
        "seconds": round(sum(steps.values()), 1),
        "longest_step_s": round(max(steps.values()), 1),
        "step_s": {step: round(seconds, 1) for step, seconds in steps.items()},
        "server_rss_above_idle_bytes": peak - first["idle"],
        "rss_bound_bytes": settings.rss_bound_bytes,
        "refused": dict(counts),
    }


async def _round(operator: Operator, settings: Settings, guests: Sequence[Child]) -> tuple[Course, RoundResult]:
    number = await operator.start_round(TASK, base=process.BASE)
    course, said = Course(settings), -1
    async for event in operator.watch(TASK, number):
        told, said = said, course.take(event)
        for guest in guests if said > told else ():
            guest.tell(said)
    return course, await operator.fetch_result(TASK, number)


def _invitations(settings: Settings, members: Consortium, address: str) -> Iterator[Invitation]:
    for index in range(settings.processes):
        directory = members.directory / f"guests-{index + 1}"
        directory.mkdir()
        numbers = range(index, settings.workload.clients, settings.processes)
        mine = tuple((number, members.site(number)) for number in numbers)
        yield Invitation(directory, mine, address, members.directory / "updates.npy", settings)


def _is_exact(result: RoundResult, members: Consortium, invitations: Sequence[Invitation]) -> bool:
    """Whether the sum is that of its participants' words, whoever they are."""
    total, summed = np.zeros_like(result.words), set(result.participants)
    for one in invitations:
        words = np.load(process.words_file(one.directory), mmap_mode="r")
        for row, (number, _) in enumerate(one.clients):
            if members.sites[number] in summed:
                total += words[row]
    return bool(np.array_equal(total, result.words))
