"""The main job: found a consortium, start its processes, run the rounds, draw the picture, compare."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numpy as np

from aggregator.config import ServerConfig
from aggregator.demo import consortium, data, hospital, job, picture, plan, server, training
from aggregator.demo.consortium import HOST, Consortium
from aggregator.demo.data import Study
from aggregator.demo.hospital import Invitation
from aggregator.demo.job import Job
from aggregator.demo.outcome import Outcome
from aggregator.demo.plan import Absence
from aggregator.demo.processes import Child, nursery
from aggregator.demo.screen import Screen
from aggregator.demo.training import LOCAL_STEPS
from aggregator.errors import SangamError
from clients.operator import operate

EVIDENCE = "evidence"


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

    def __post_init__(self) -> None:
        plan.draw(self.sites, self.rounds, self.dropouts, self.seed)

    @property
    def absences(self) -> tuple[Absence, ...]:
        """Who vanishes when."""
        return plan.draw(self.sites, self.rounds, self.dropouts, self.seed)


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
    members = consortium.found(directory, consortium.hospital_names(len(study.shards)), datetime.now(UTC))
    (directory / EVIDENCE).mkdir()
    for site, shard in enumerate(study.shards):
        shard.save(members.hospital(site) / hospital.RECORDS_FILE)
    return members


async def _train(settings: Settings, members: Consortium, study: Study, screen: Screen) -> Job:
    context, children = nursery(), list[Child]()
    evidence = members.directory / EVIDENCE
    with _ending(children, screen):
        with screen.stage("one aggregator, listening on this machine over mutual TLS"):
            config = ServerConfig(f"{HOST}:0", members.aggregator, members.roster)
            children.append(Child(context, "aggregator", members.aggregator, server.main, config))
            address = f"{HOST}:{await _port(children[0])}"
        async with operate(address, members.operator) as operator:
            await operator.create_task(hospital.TASK, job.parameters(study), deadlines=job.DEADLINES)
            with screen.stage(f"{len(members.hospitals)} hospitals, each a process with its own key and records"):
                for one in _invitations(members, address, evidence, settings.absences):
                    children.append(Child(context, one.name, one.directory, hospital.main, one))
            work = Job(operator, children[1:], settings.absences, study, evidence)
            with screen.rounds(settings.rounds) as bar:
                await work.run(settings.rounds, bar)
            return work


@contextmanager
def _ending(children: list[Child], screen: Screen) -> Iterator[None]:
    """No process outlives the block; an error shows what they wrote last."""
    try:
        yield
    except SangamError:
        for child in children:
            screen.log(child.name, child.log_tail())
        raise
    finally:
        for child in children:
            child.kill()


async def _port(aggregator: Child) -> int:
    try:
        return (await aggregator.hear())["port"]
    except EOFError:
        raise aggregator.ended() from None


def _invitations(
    members: Consortium, address: str, evidence: Path, absences: tuple[Absence, ...]
) -> Iterator[Invitation]:
    least = plan.minimum_cohort(len(members.hospitals))
    for site, name in enumerate(members.hospitals):
        own = tuple(absence for absence in absences if absence.site == site)
        yield Invitation(name, members.hospital(site), address, least, evidence, own)


def _draw(path: Path, members: Consortium, done: Job, screen: Screen) -> str:
    with screen.stage("the picture"):
        shown = picture.sample(members.directory / EVIDENCE, members.hospitals, done.rounds, done.parameters)
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
        payload_bytes=done.parameters.chunk_plan.payload_bytes,
        sent_bytes=float(np.mean([one.sent_bytes for one in done.finished] or [0])),
        clipped_entries=sum(one.clipped_entries for one in done.finished),
        seconds=seconds,
        picture=path,
    )
