"""The main job: found a consortium, start its processes, run the rounds, draw the picture, compare."""

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.context import ForkServerContext
from pathlib import Path
from time import perf_counter

import numpy as np

from aggregator.config import ServerConfig
from aggregator.demo import consortium, data, hospital, picture, plan, server, training
from aggregator.demo.consortium import HOST, Consortium
from aggregator.demo.data import Study
from aggregator.demo.hospital import Invitation
from aggregator.demo.job import DEADLINES, TASK, Job
from aggregator.demo.outcome import Outcome
from aggregator.demo.plan import Absence
from aggregator.demo.processes import Child, nursery
from aggregator.demo.screen import Screen
from aggregator.demo.training import LOCAL_STEPS
from clients.operator import operate

EVIDENCE = "evidence"


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for; `out` receives the picture."""

    sites: int
    rounds: int
    dropouts: int
    seed: int
    out: Path


async def run(settings: Settings, screen: Screen) -> Outcome:
    """Run the whole demo. Everything but the picture is gone afterwards, whatever happens.

    Raises:
        ParameterError: more dropouts than the rounds tolerate.
        StorageError: a file cannot be written.
        Disconnected: a process ended that should not have; the screen shows the logs.
    """
    start = perf_counter()
    absences = plan.draw(settings.sites, settings.rounds, settings.dropouts, settings.seed)
    context = nursery()
    with tempfile.TemporaryDirectory(prefix="sangam-demo-") as name:
        with screen.stage(f"569 patients' records split over {settings.sites} hospitals"):
            study = data.deal(settings.sites, settings.seed)
        with screen.stage("a throw-away consortium: certificates and a signed roster"):
            members = _found(Path(name), study)
        job = await _train(settings, members, study, absences, context, screen)
        seconds = perf_counter() - start
        path = _draw(settings.out, members, study, job, screen)
    return _outcome(settings, study, job, seconds, path)


async def _train(
    settings: Settings,
    members: Consortium,
    study: Study,
    absences: tuple[Absence, ...],
    context: ForkServerContext,
    screen: Screen,
) -> Job:
    async with _serving(context, members, screen) as (address, children), operate(address, members.operator) as session:
        with screen.stage(f"one aggregator on {address}, {settings.sites} hospitals, each its own process"):
            invitations = _invitations(members, address, absences)
            children.extend(Child(context, one.name, one.directory, hospital.main, one) for one in invitations)
            job = Job(session, children[1:], absences, study, members.directory / EVIDENCE)
            await session.create_task(TASK, job.parameters, deadlines=DEADLINES)
"""
