"""The main job with real processes. Slow for a unit test (seconds), so there are few of them."""

import asyncio
import io
import itertools
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from aggregator.demo import data, hospital, job, picture, plan
from aggregator.demo.hospital import Invitation
from aggregator.demo.plan import Exit
from aggregator.demo.run import Settings, run
from aggregator.demo.screen import Screen
from aggregator.demo.witness import Words
from aggregator.errors import ParameterError
from aggregator.local.consortium import site_names
from aggregator.local.processes import Child, nursery
from aggregator.protocol.parameters import Mode
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import HOMOMORPHIC_STEPS, MASKED_STEPS, Step
from clients.result import RoundResult
from tests.consortium import Consortium
from tests.demo.test_outcome import WANTED

COMMAND = [sys.executable, "-c", "import typer; from aggregator.command.demo import demo; typer.run(demo)"]


def quiet() -> Screen:
    return Screen(Console(file=io.StringIO()))


def seed_of_all_exits(rounds: int) -> int:
    """A seed by which one hospital a round vanishes in every step in both ways."""
    every = set(itertools.product(MASKED_STEPS, Exit))
    plans = ((seed, plan.draw(4, rounds, 1, seed)) for seed in itertools.count())
    return next(seed for seed, drawn in plans if {(one.step, one.exit) for one in drawn} == every)


def test_sums_stay_exact_whatever_step_a_hospital_leaves_in(tmp_path: Path) -> None:
    settings = Settings(sites=4, rounds=11, dropouts=1, seed=seed_of_all_exits(11), out=tmp_path)
    outcome = asyncio.run(run(settings, quiet()))
    names = site_names("hospital", 4)
    planned = {(one.round, names[one.site], one.step, one.exit) for one in settings.absences}
    lost = {(one.number, gone.hospital, gone.step, gone.exit) for one in outcome.rounds for gone in one.dropouts}
    assert outcome.exact
    assert not outcome.aborted
    assert outcome.outage is not None
    assert outcome.outage.round == plan.hub_round(11)
    assert 0 < outcome.outage.seconds < 10
    assert lost == planned
    after_input = {Step.CONSISTENCY_CHECK, Step.UNMASKING}
    for one, absence in zip(outcome.rounds, settings.absences, strict=True):
        assert len(one.participants) == (4 if absence.step in after_input else 3)
    assert outcome.clipped_entries == 0
    assert abs(outcome.auc_federated - outcome.auc_pooled) < 0.01
    assert outcome.sent_bytes > 10 * outcome.payload_bytes
    assert Path(outcome.picture).is_file()
    assert not multiprocessing.active_children()


def test_homomorphic_sums_stay_exact_with_key_holder_and_auditor_as_processes(tmp_path: Path) -> None:
    settings = Settings(sites=4, rounds=4, dropouts=1, seed=1, out=tmp_path, mode=Mode.HOMOMORPHIC)
    outcome = asyncio.run(run(settings, quiet()))
    names = site_names("hospital", 4)
    planned = {(one.round, names[one.site], one.step, one.exit) for one in settings.absences}
    lost = {(one.number, gone.hospital, gone.step, gone.exit) for one in outcome.rounds for gone in one.dropouts}
    assert outcome.exact
    assert not outcome.aborted
    assert outcome.outage is not None
    assert lost == planned
    assert {step for _, _, step, _ in lost} == {Step.COMMIT_INPUT, Step.UPLOAD}
    assert all(tuple(one.step_seconds) == HOMOMORPHIC_STEPS for one in outcome.rounds)
    assert all(len(one.participants) == 3 for one in outcome.rounds)


async def started(tmp_path: Path, *options: str) -> asyncio.subprocess.Process:
    """The command, in a process group and with a temporary directory of its own."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *COMMAND, *options, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
    )


async def test_the_command_ends_with_one_json_object(tmp_path: Path) -> None:
    small = "--sites", "4", "--rounds", "2", "--dropouts", "1", "--seed", "7"
    process = await started(tmp_path, *small, "--json", "--out", str(tmp_path))
    said, told = await process.communicate()
    assert process.returncode == 0, told
    values = json.loads(said.splitlines()[-1])
    assert values.keys() >= WANTED
    assert values["exact"] is True
    assert (values["sites"], values["rounds"], values["dropped"]) == (4, 2, 2)
    assert values["outage"]["round"] == 1
    assert os.listdir(tmp_path) == [picture.FILE]


async def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    process = await started(tmp_path, "--sites", "4", "--rounds", "1000", "--dropouts", "1")
    assert process.stderr is not None
    async for line in process.stderr:
        if b"each a process" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    told = (await process.communicate())[1]  # to its end: every process of the demo has let go of it
    assert process.returncode == 130
    assert b"Interrupted" in told
    assert b"Traceback" not in told
    assert os.listdir(tmp_path) == []


def test_more_dropouts_than_the_threshold_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="tolerate at most 3 dropouts"):
        Settings(sites=10, rounds=1, dropouts=4, seed=0, out=tmp_path)


def test_a_hospital_that_dies_is_named_with_its_last_words(tmp_path: Path) -> None:
    invitation = Invitation("hospital-01", tmp_path, "127.0.0.1:1", 3, tmp_path, ())

    async def ended() -> str:
        child = Child(nursery(hospital.__name__), "hospital-01", tmp_path, hospital.main, invitation)
        with pytest.raises(EOFError):
            await child.hear()
        error = str(child.ended())
        child.kill()
        return error

    error = asyncio.run(ended())
    assert error.startswith("hospital-01 ended unexpectedly (exit code 1): ")
    assert hospital.RECORDS_FILE in error


def test_one_wrong_word_is_not_exact(tmp_path: Path) -> None:
    words = np.arange(32, dtype=np.uint32)
    for name, times in (("a", 1), ("b", 2)):
        Words(times * words, words).save(Words.path(tmp_path, 1, name))
    terms = Consortium.of(2).terms(job.parameters(data.deal(4, 0)))
    result = RoundResult("t", 99, {}, 0, ("a", "b"), {}, terms, 3 * words)
    assert job.is_exact(result, tmp_path, 1)
    for place in (0, 31):
        wrong = 3 * words
        wrong[place] += 1
        assert not job.is_exact(replace(result, words=wrong), tmp_path, 1)
    assert not job.is_exact(replace(result, participants=("a",)), tmp_path, 1)


class FailingOperator:
    """Starts rounds that all fail."""

    async def start_round(self, task: str, *, base: object) -> int:
        return 5

    async def watch(self, task: str, number: int) -> AsyncIterator[RoundEvent]:
        yield RoundEvent(0.0, "failed", "share_keys", "", "share keys: 2 clients, need 3", 0)


async def test_the_first_aborted_round_is_the_last(tmp_path: Path) -> None:
    work = job.Job(FailingOperator(), [], (), data.deal(4, 0), tmp_path, hub=None)
    with quiet().rounds(3) as bar:
        await work.run(3, bar)
    assert work.aborted == "round 1: share keys: 2 clients, need 3"
    assert work.rounds == []
    assert work.outage is None
