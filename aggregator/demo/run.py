"""The main job: found a consortium, start its processes, run the rounds, draw the picture, compare."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numpy as np

from aggregator.config import ServerConfig
from aggregator.demo import data, hospital, job, picture, plan, training
from aggregator.demo.data import Study
from aggregator.demo.hospital import Invitation
from aggregator.demo.job import Job
from aggregator.demo.outcome import Outcome
from aggregator.demo.plan import Absence
from aggregator.demo.screen import Screen
from aggregator.demo.training import LOCAL_STEPS
from aggregator.local import consortium, server
from aggregator.local.consortium import HOST, Consortium
from aggregator.local.parties import start as start_parties
from aggregator.local.processes import Child, ending, nursery
from aggregator.local.tolerance import minimum_cohort
from aggregator.protocol.parameters import Mode
from clients.operator import operate

EVIDENCE = "evidence"
STATE = "state"


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for; `out` receives the picture.

    Raises:
        ParameterError: more dropouts than the rounds tolerate.
    """

    sites: int
    rounds: int
    dropouts: int
    seed: int
    out: Path
    mode: Mode = Mode.AUTO

    def __post_init__(self) -> None:
        plan.draw(self.sites, self.rounds, self.dropouts, self.seed, self.mode)

    @property
    def absences(self) -> tuple[Absence, ...]:
        """Who vanishes when."""
        return plan.draw(self.sites, self.rounds, self.dropouts, self.seed, self.mode)


async def run(settings: Settings, screen: Screen) -> Outcome:
    """Run the whole demo. Everything but the picture is gone afterwards, whatever happens.

    Raises:
        StorageError: a file cannot be written.
        Disconnected: a process ended that should not have; the screen shows the logs.
    """
    start = perf_counter()
    with tempfile.TemporaryDirectory(prefix="sangam-demo-") as name:
        with screen.stage(f"records of 569 patients, dealt out to {settings.sites} hospitals"):
            study = data.deal(settings.sites, settings.seed)
        with screen.stage("a throw-away consortium: authority, certificates, signed roster"):
            members = _found(Path(name), study)
        done = await _train(settings, members, study, screen)
        seconds = perf_counter() - start
        path = _draw(settings.out / picture.FILE, members, done, screen) if done.rounds else ""
    return _outcome(settings, study, done, seconds, path)


def _found(directory: Path, study: Study) -> Consortium:
    members = consortium.found(directory, consortium.site_names("hospital", len(study.shards)), datetime.now(UTC))
    (directory / EVIDENCE).mkdir()
    for site, shard in enumerate(study.shards):
        shard.save(members.site(site) / hospital.RECORDS_FILE)
    return members


async def _train(settings: Settings, members: Consortium, study: Study, screen: Screen) -> Job:
    context, children = nursery(hospital.__name__), list[Child]()
    evidence = members.directory / EVIDENCE
    with ending(children, screen):
        with screen.stage("one aggregator, listening on this machine over mutual TLS"):
            state = members.directory / STATE
            config = ServerConfig(f"{HOST}:0", members.aggregator, members.roster, state=state)
            hub = Child(context, "aggregator", members.aggregator, server.main, config)
            children.append(hub)
            address = f"{HOST}:{(await hub.expect('port'))['port']}"
            hub.argument = replace(config, address=address)  # for its second life
        async with operate(address, members.operator) as operator:
            parameters = job.parameters(study, settings.mode)
            await operator.create_task(hospital.TASK, parameters, deadlines=job.DEADLINES)
            with screen.stage(f"{len(members.sites)} hospitals, each a process with its own key and records"):
                for one in _invitations(members, address, evidence, settings.absences):
                    children.append(Child(context, one.name, one.directory, hospital.main, one))
            hospitals = children[1:]
            if parameters.parties is not None:
                with screen.stage("a key holder and an auditor, each a process with its own key and ledger"):
                    children.extend(start_parties(context, members, parameters.parties, address, hospital.TASK))
            work = Job(operator, hospitals, settings.absences, study, evidence, hub=hub, mode=settings.mode)
            with screen.rounds(settings.rounds) as bar:
                await work.run(settings.rounds, bar)
            return work


def _invitations(
    members: Consortium, address: str, evidence: Path, absences: tuple[Absence, ...]
) -> Iterator[Invitation]:
    least = minimum_cohort(len(members.sites))
    for site, name in enumerate(members.sites):
        own = tuple(absence for absence in absences if absence.site == site)
        yield Invitation(name, members.site(site), address, least, evidence, own)


def _draw(path: Path, members: Consortium, done: Job, screen: Screen) -> str:
    with screen.stage("the picture"):
        shown = picture.sample(members.directory / EVIDENCE, members.sites, done.rounds, done.parameters)
        picture.draw(path, shown, done.parameters)
    return str(path)


def _outcome(settings: Settings, study: Study, done: Job, seconds: float, path: str) -> Outcome:
    start, steps = training.initial(len(study.names)), LOCAL_STEPS * len(done.rounds)
    alone = [training.descend(start, shard, steps) for shard in study.shards]
    pooled = training.descend(start, study.pooled, steps)
    return Outcome(
        sites=settings.sites,
        rounds_asked=settings.rounds,
        rounds=tuple(done.rounds),
        aborted=done.aborted,
        records=tuple((len(shard), int(shard.labels.sum())) for shard in study.shards),
        held_out=len(study.held_out),
        auc_federated=training.auc(done.model, study.held_out),
        auc_pooled=training.auc(pooled, study.held_out),
        auc_alone=tuple(training.auc(model, study.held_out) for model in alone),
        words=done.parameters.entries,
        payload_bytes=done.parameters.upload_plan.payload_bytes,
        sent_bytes=float(np.mean([one.sent_bytes for one in done.finished] or [0])),
        clipped_entries=sum(one.clipped_entries for one in done.finished),
        seconds=seconds,
        picture=path,
        outage=done.outage,
    )
