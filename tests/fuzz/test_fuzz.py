"""The short form of `make fuzz`: what was found once, and a few hundred damaged inputs for every target."""

import json
import sys

import pytest

from aggregator.protocol import pairwise
from aggregator.rounds.driver import Driver
from aggregator.rounds.waiting import Waiting
from aggregator.wire import ckks_messages, messages, operator_messages
from tests.fuzz import __main__ as command
from tests.fuzz import campaign, registry, short
from tests.fuzz.target import Target
from tests.fuzz.targets import driver, wire
from tests.messages import kinds_in

INPUTS, SEQUENCES = 250, 180
HONEST = bytes([0, 0, 0, 0])  # four clients in pairwise mode do as they should


@pytest.mark.parametrize("name", registry.NAMES)
def test_nothing_is_found_again(name):
    for case in short.cases(registry.target(name)):
        registry.target(name).run(case.read_bytes())


@pytest.mark.parametrize("name", registry.NAMES)
def test_nothing_is_found_in_short(name):
    target = registry.target(name)
    for data in short.damaged(target, SEQUENCES if target.sequences else INPUTS):
        target.run(data)


@pytest.mark.parametrize("name", registry.NAMES)
def test_seeds_are_short_enough_and_the_same_for_everybody(name):
    target = registry.target(name)
    seeds = list(target.seeds())
    assert seeds
    assert max(map(len, seeds)) <= max(target.bytes_max, 20_100)
    if name not in ("certificates", "requests", "files"):  # these have signatures, which draw randomness
        assert seeds == list(target.seeds())


def test_every_kind_of_message_is_fuzzed():
    modules = (messages, operator_messages, ckks_messages)
    assert [kind for module in modules for kind in kinds_in(module)] == wire.KINDS
    assert {data[0] for data in wire.seeds()} == set(range(len(wire.KINDS)))


def test_every_case_belongs_to_a_target():
    assert {folder.name for folder in short.CASES.iterdir()} <= set(registry.NAMES)


def test_a_wrong_sum_is_found(monkeypatch):
    def wrong(total, index, data, add=pairwise.Total.add):
        add(total, index, data)
        total._words[0] += 1

    driver.run(HONEST)
    monkeypatch.setattr(pairwise.Total, "add", wrong)
    with pytest.raises(AssertionError):
        driver.run(HONEST)


def test_an_error_of_no_name_is_found(monkeypatch):
    async def broken(driver, client, message):
        raise KeyError(client)

    monkeypatch.setattr(Driver, "deliver", broken)
    with pytest.raises(KeyError):
        driver.run(HONEST)


def test_a_round_without_end_is_found(monkeypatch):
    async def patient(waiting, phase, withdrawn, left_s):
        while True:
            waiting._lines.changed.clear()
            await waiting._lines.changed.wait()

    monkeypatch.setattr(Waiting, "collect", patient)
    with pytest.raises(AssertionError, match="deadlines have all passed still runs"):
        driver.run(HONEST)


def test_inputs_are_divided_by_shares_and_none_is_lost():
    targets = [registry.target(name) for name in registry.NAMES]
    shares = campaign.divided(targets, 1_000_003, 77)
    for kind, total in ((False, 1_000_003), (True, 77)):
        assert sum(share.inputs for share in shares if share.target.sequences is kind) == total
    only = campaign.divided(targets[:2], 1_000, 5)
    assert [(share.target.name, share.inputs) for share in only] == [("wire", 800), ("chunks", 200)]


@pytest.mark.parametrize(
    ("code", "growth", "artifacts", "found"),
    [(0, 1.0, 0, ""), (77, 1.0, 1, "crash-0"), (-11, 1.0, 0, "exit status -11: log"), (0, 99.0, 0, "grew by 99.0 MiB")],
)
def test_what_counts_as_a_crash(tmp_path, code, growth, artifacts, found):
    paths = [tmp_path / f"crash-{i}" for i in range(artifacts)]
    said = campaign._crash(code, {"rss_growth_mib": growth}, paths, "log")
    assert found in said
    assert bool(found) is bool(said)


def test_the_last_line_tells_it_all(monkeypatch, capsys):
    said = {"inputs": 7, "edges": 3, "new": 1, "seconds": 0.1, "rss_mib": 9.0, "rss_growth_mib": 0.0, "crash": ""}
    ended = {"wire": said, "driver": said | {"inputs": 2, "crash": "found/crash-1"}}
    monkeypatch.setattr(campaign, "run", lambda *_: ended)
    monkeypatch.setattr(
        sys, "argv", ["fuzz", "--inputs", "7", "--sequences", "2", "--only", "wire", "--only", "driver"]
    )
    assert command.main() == 1
    out, err = capsys.readouterr()
    found = json.loads(out.splitlines()[-1])
    assert (found["inputs"], found["sequences"], found["crashes"]) == (7, 2, 1)
    assert found["targets"] == ended
    assert "python -m tests.fuzz replay driver found/crash-1" in err


def test_what_is_kept_is_replayed(monkeypatch, tmp_path):
    ran = []
    (tmp_path / "crash").write_bytes(b"found")
    monkeypatch.setattr(short, "CASES", tmp_path / "cases")
    monkeypatch.setattr(command, "CASES", tmp_path / "cases")
    monkeypatch.setattr(command, "target", lambda name: Target(name, ran.append, list))
    for verb in ("keep", "replay"):
        monkeypatch.setattr(sys, "argv", ["fuzz", verb, "wire", str(tmp_path / "crash")])
        assert command.main() == 0
    assert ran == [b"found"]
    (case,) = short.cases(Target("wire", ran.append, list))
    assert case.read_bytes() == b"found"
    assert len(case.name) == 12
