"""Whole simulations, with real processes: a second each, so there are few."""

import asyncio
import io
import json
import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from aggregator.errors import Disconnected, StorageError
from aggregator.local.screen import Screen
from aggregator.protocol.parameters import Mode
from aggregator.rounds.masked_input import MaskedInput
from aggregator.rounds.unmasking import Unmasking
from aggregator.simulate import report
from aggregator.simulate.outcome import Outcome
from aggregator.simulate.run import run
from aggregator.simulate.settings import Settings
from aggregator.wire.vocabulary import MASKED_STEPS
from tests.typed import ended, sangam

WANTED = {
    *("clients", "completed", "exact", "seconds", "server_peak_rss_bytes", "server_before_rss_bytes", "mode"),
    *("entries", "dropouts", "survivors", "threshold", "degree", "steps", "bytes_per_client", "bits", "rounds", "seed"),
}
SMALL = Settings("pairwise", clients=12, entries=300, bits=16, dropouts=0, rounds=1, seed=5)


def simulated(settings: Settings) -> Outcome:
    return asyncio.run(run(settings, Screen(Console(file=io.StringIO()))))


@pytest.mark.parametrize("mode", [Mode.PAIRWISE, Mode.LATTICE])
def test_above_100_with_dropouts_at_every_step_every_sum_is_exact(mode: Mode) -> None:
    outcome = simulated(Settings(mode, clients=105, entries=1_000, bits=16, dropouts=10, rounds=2, seed=1))
    figures = outcome.figures()
    assert (outcome.completed, outcome.exact) == (True, True)
    assert figures["survivors"] == 99  # of ten, four left after their input had arrived
    assert (figures["degree"], figures["threshold"]) == (34, 23)
    assert set(figures["steps"]) == set(MASKED_STEPS)
    assert figures["seconds"] == pytest.approx(sum(figures["steps"].values()))
    assert 2 * 1_000 < figures["bytes_per_client"] < 100_000


def test_a_sum_that_is_wrong_in_one_word_is_not_exact(monkeypatch) -> None:
    honest = Unmasking.finish

    def lying(phase: Unmasking):
        end = honest(phase)
        end.total[7] += np.uint32(1)
        return end

    monkeypatch.setattr(Unmasking, "finish", lying)
    outcome = simulated(SMALL)
    assert (outcome.completed, outcome.exact) == (True, False)
    assert "NOT every sum was exact" in shown(outcome)


def test_a_sum_over_others_than_planned_is_not_exact(monkeypatch) -> None:
    honest = MaskedInput.commit

    def forgetful(phase: MaskedInput, upload) -> None:
        phase.abandon(upload) if upload.client == 3 else honest(phase, upload)

    monkeypatch.setattr(MaskedInput, "commit", forgetful)
    outcome = simulated(SMALL)
    assert (outcome.completed, outcome.exact, outcome.rounds[0].survivors) == (True, False, 11)


def test_a_round_that_fails_is_the_last_and_says_why(monkeypatch) -> None:
    monkeypatch.setattr(MaskedInput, "commit", lambda phase, upload: phase.abandon(upload))
    outcome = simulated(replace(SMALL, rounds=3))
    assert (outcome.completed, outcome.exact, len(outcome.rounds)) == (False, False, 1)
    assert outcome.figures()["failure"] == "masked input: 0 clients, need 9"
    assert "a round failed: masked input: 0 clients, need 9" in shown(outcome)


def test_an_error_ends_the_simulation_under_its_name(monkeypatch) -> None:
    def refuse(phase: MaskedInput, upload) -> None:
        raise StorageError("no room")

    monkeypatch.setattr(MaskedInput, "commit", refuse)
    with pytest.raises(StorageError, match="no room"):
        simulated(SMALL)


def test_a_process_that_dies_is_named(monkeypatch) -> None:
    def deadly(phase: MaskedInput, upload) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    monkeypatch.setattr(MaskedInput, "commit", deadly)
    with pytest.raises(Disconnected, match=r"clients-[12] ended unexpectedly"):
        simulated(SMALL)


def shown(outcome: Outcome) -> str:
    console = Console(file=io.StringIO(), width=100, record=True)
    report.show(console, outcome)
    return console.export_text()


async def test_the_command_ends_with_json_and_leaves_nothing_behind(tmp_path) -> None:
    words = ["simulate", "--clients", "6", "--entries", "50", "--dropouts", "1", "--json"]
    out, err = await ended(await sangam(*words, TMPDIR=str(tmp_path)))
    figures = json.loads(out.splitlines()[-1])
    assert figures.keys() >= WANTED
    asked = {name: figures[name] for name in ("clients", "entries", "dropouts", "mode", "completed", "exact")}
    assert asked == {"clients": 6, "entries": 50, "dropouts": 1, "mode": "lattice", "completed": True, "exact": True}
    assert figures["server_peak_rss_bytes"] >= figures["server_before_rss_bytes"] > 0
    assert "every sum exact" in err
    assert os.listdir(tmp_path) == []


async def test_ctrl_c_ends_all_and_leaves_nothing_behind(tmp_path) -> None:
    process = await sangam("simulate", "--clients", "400", "--entries", "10", TMPDIR=str(tmp_path))
    seen = b""
    while b"processes that hold the clients" not in seen:
        piece = await process.stderr.read(1 << 16)
        assert piece, seen
        seen += piece
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130, err
    assert b"Interrupted: all processes have ended" in err
    assert os.listdir(tmp_path) == []


REFUSALS = [
    (["--clients", "1000", "--dropouts", "101"], "1000 clients tolerate at most 100 dropouts"),
    (["--clients", "8", "--dropouts", "3"], "8 clients tolerate at most 2 dropouts"),
    (["--mode", "quick"], "mode 'quick' is not one of those that this runs: lattice, pairwise"),
    (["--mode", "homomorphic"], "a simulation has no key holder and no auditor: use sangam bench --mode homomorphic"),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSALS, ids=[sentence for _, sentence in REFUSALS])
def test_a_refusal_is_one_sentence(refusal, arguments, sentence) -> None:
    assert sentence in refusal("simulate", *arguments)
