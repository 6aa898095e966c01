"""Every example that a command's help gives is run as it stands, but for ports, directories and round numbers.

The examples are one story: a consortium is made, a site enrolled, a server checked and started, a round run, watched,
fetched and forgotten; then the task goes, and the site is revoked. An example outside the story fails the last test.
"""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tenseal
import typer
from typer.testing import CliRunner

from aggregator import __main__ as command
from aggregator.arrays import read_arrays, write_arrays
from tests.ciphertexts import ckks_context

TIMEOUT_S = 60
SITES = ("site", "second", "third")
OTHERS = (
    ("second", "participant"),
    ("third", "participant"),
    ("operator", "operator"),
    ("keyholder", "key-holder"),
    ("auditor", "auditor"),
)
HUB_TOML = """
listen = "localhost:0"
identity = "hub"
roster = "consortium/roster.json"
"""
TRAINING_TOML = """
task = "training"
model = "model.npz"
rounds = 1
clip = 2.0
weight_max = 600
minimum_cohort = 3
enough = 3
"""


def examples() -> Iterator[str]:
    """What stands in bold after a word and a colon in the help of each command."""
    waiting = [typer.main.get_command(command.app)]
    while waiting:
        found = waiting.pop()
        waiting += getattr(found, "commands", {}).values()
        if not hasattr(found, "commands"):
            for text in re.findall(r"^\s*\w+: \[bold\](sangam .*?)\[/bold\]", found.help, re.S | re.M):
                yield " ".join(text.split())


class Stage:
    """A directory in which commands are typed, and what has been typed there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.played: list[str] = []
        self.running: list[subprocess.Popen[str]] = []
        self.environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "200"}

    def start(self, line: str, **changes: str) -> "subprocess.Popen[str]":
        """Type one line and go on; `changes` says what stands in the place of a word of it."""
        self.played.append(line)
        words = [changes.get(word, word) for word in shlex.split(line)[1:]]
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "aggregator", *words],
            cwd=self.home,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.running.append(process)
        return process

    def run(self, line: str, **changes: str) -> str:
        """Type one line, see it end well, and give what it printed; in this process, which saves seconds."""
        self.played.append(line)
        words = [changes.get(word, word) for word in shlex.split(line)[1:]]
        result = CliRunner().invoke(command.app, words, env=self.environment, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.communicate()


def ended(process: "subprocess.Popen[str]") -> str:
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out


def heard(process: "subprocess.Popen[str]", text: str) -> str:
    """The first line on stderr that holds the text."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"{text!r} never came")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.chdir(tmp_path)
    made = Stage(tmp_path)
    yield made
    made.close()


def enrol(stage: Stage) -> None:
    """The aggregator and the first site by the examples, the others likewise."""
    stage.run("sangam pki init consortium --deployment demo")
    stage.run("sangam pki request aiims-delhi --deployment demo --out site")
    assert "aiims-delhi" in stage.run("sangam pki show site/request.pem")
    stage.run("sangam pki issue site/request.pem --authority consortium")
    stage.run("sangam pki install aiims-delhi.pem --identity site")
    stage.run("sangam pki request hub --role aggregator --host localhost --deployment demo --out hub")
    stage.run("sangam pki issue hub/request.pem --role aggregator --authority consortium")
    stage.run("sangam pki install hub.pem --identity hub")
    for name, role in OTHERS:
        stage.run(f"sangam pki request {name} --role {role} --deployment demo --out {name}")
        stage.run(f"sangam pki issue {name}/request.pem --role {role} --authority consortium")
        stage.run(f"sangam pki install {name}.pem --identity {name}")
    stage.run("sangam pki renew --identity site")
    assert "aiims-delhi" in stage.run("sangam pki list --authority consortium --expiring 30", **{"30": "366"})


def serve_parties(stage: Stage, address: dict[str, str]) -> None:
    """A homomorphic round of the three sites, key holder and auditor beside them."""
    assert "Any 2 of these 3" in stage.run("sangam keyholder init --custodians 3 --threshold 2 --out custody")
    line = (
        "sangam keyholder serve --address hub:7443 --identity keyholder --task lungs "
        "--custodian custody/custodian-1.json --custodian custody/custodian-3.json"
    )
    parties = [
        stage.start(line, **address, lungs="hearts"),
        stage.start(
            "sangam auditor serve --address hub:7443 --identity auditor --task lungs", **address, lungs="hearts"
        ),
    ]
    stage.run(
        "sangam task create hearts --like update.npz --weight-max 600 --mode homomorphic --key-holder keyholder "
        "--auditor auditor"
    )
    leader = stage.start("sangam round run hearts --base model.npz --out hearts.npz")
    for process in contribute(stage, "--task", "hearts"):
        ended(process)
    assert "mean over 3 sites" in ended(leader)
    assert np.allclose(read_arrays(stage.home / "hearts.npz")["w"], 1.0, atol=1e-2)
    stage.run("sangam task cancel hearts")
    for process in parties:
        assert ended(process) == ""


def serve(stage: Stage) -> "subprocess.Popen[str]":
    (stage.home / "hub.toml").write_text(HUB_TOML)
    stage.run("sangam config check hub.toml")
    stage.run("sangam config show hub.toml")
    configured = stage.start("sangam serve --config hub.toml")
    heard(configured, "listening on")
    configured.terminate()
    ended(configured)
    line = "sangam serve --identity hub --roster consortium/roster.json --listen localhost:7443"
    stage.environment["SANGAM_CKKS"] = "true"
    server = stage.start(line, **{"localhost:7443": "localhost:0"})
    assert "can solve for the secret key" in heard(server, "CKKS")
    stage.environment["SANGAM_ADDRESS"] = heard(server, "listening on").split()[-1]
    stage.environment["SANGAM_IDENTITY"] = str(stage.home / "operator")
    return server


def contribute(stage: Stage, *more: str) -> "list[subprocess.Popen[str]]":
    """The three sites join; the first by the example."""
    where = {"hub:7443": stage.environment["SANGAM_ADDRESS"]}
    line = "sangam join --address hub:7443 --identity site --update u.npz --weight 569 --base model.npz --out mean.npz"
    extra = "".join(f" {word}" for word in more)
    return [stage.start(line + extra, **where, site=site, **{"mean.npz": f"{site}/mean.npz"}) for site in SITES]


def test_every_example_of_the_help(stage: Stage) -> None:
    enrol(stage)
    server = serve(stage)
    address = {"hub:7443": stage.environment["SANGAM_ADDRESS"]}
    for name in ("update.npz", "u.npz", "model.npz"):
        write_arrays(stage.home / name, {"w": np.ones(3)})
    stage.run("sangam task create lungs --like update.npz --weight-max 600")

    leader = stage.start("sangam round run lungs --base model.npz --out next.npz")
    heard(leader, "advertise keys")
    for process in contribute(stage):
        ended(process)
    assert "mean over 3 sites" in ended(leader)
    assert np.allclose(read_arrays(stage.home / "next.npz")["w"], 1.0, atol=1e-2)
    number = {"7": str(json.loads(stage.run("sangam round list lungs --json"))["round"])}
    assert "closed" in stage.run("sangam round list lungs")
    assert "closed" in stage.run("sangam round show lungs 7", **number)
    stage.run("sangam round watch lungs")
    assert "mean over 3 sites" in stage.run("sangam round fetch lungs --out mean.npz")
    assert "deleted" in stage.run("sangam round forget lungs 7", **number)
    assert json.loads(stage.run("sangam round show lungs 7 --json", **number))["result"] == "deleted"

    second = {"7": stage.run("sangam round start lungs --base next.npz --key nightly-7").strip()}
    assert stage.run("sangam round start lungs --base next.npz --key nightly-7").strip() == second["7"]
    assert "wrong base model" in stage.run('sangam round abort lungs 7 --reason "wrong base model"', **second)
    assert "aiims-delhi" in stage.run("sangam site list --task lungs")
    assert "lungs" in stage.run("sangam task list")
    assert json.loads(stage.run("sangam task show lungs --json"))["summary"]["rounds"] == 2
    assert "wrong base model" in stage.run("sangam status hub:7443 --identity operator", **address)
    assert "none changed or taken out" in stage.run("sangam audit verify hub/state")
    stage.run("sangam doctor --address hub:7443 --identity site", **address)
    serve_http(stage, address)
    sum_ckks(stage)
    serve_parties(stage, address)
    train(stage, address)

    stage.run("sangam task cancel lungs")
    stage.run("sangam task delete lungs")
    stage.run('sangam pki revoke aiims-delhi --authority consortium --reason "laptop stolen"')
    server.terminate()
    ended(server)
    stage.run("sangam version")
    assert "5 of 5" in ended(stage.start("sangam demo --sites 6 --rounds 5 --dropouts 1"))
    ended(stage.start("sangam simulate --clients 120 --entries 2000 --mode lattice --dropouts 6"))
    ended(stage.start("sangam bench --mode lattice --clients 8 --entries 100000 --dropouts 1"))
    assert set(examples()) <= set(stage.played)


def train(stage: Stage, address: dict[str, str]) -> None:
    """A training of one round, to which the three sites contribute."""
    (stage.home / "lungs.toml").write_text(TRAINING_TOML)
    leader = stage.start("sangam run lungs.toml --address hub:7443 --identity operator", **address)
    heard(leader, "3 sites awaited")
    for process in contribute(stage, "--task", "training"):
        ended(process)
    assert "3 sites, 1,707 records" in heard(leader, "1/1")
    assert ended(leader) == ""
    assert np.allclose(read_arrays(stage.home / "lungs.run" / "model.npz")["w"], 2.0, atol=1e-2)
    assert (stage.home / "lungs.run" / "curves.png").read_bytes().startswith(b"\x89PNG")


def sum_ckks(stage: Stage) -> None:
    for name, value in (("a", 0.5), ("b", 2.0)):
        (stage.home / f"{name}.ckks").write_bytes(tenseal.ckks_vector(ckks_context(), [value] * 3).serialize())
    assert "sum of 2 vectors" in stage.run("sangam ckks sum a.ckks b.ckks --out sum.ckks")
    total = tenseal.ckks_vector_from(ckks_context(), (stage.home / "sum.ckks").read_bytes())
    assert np.allclose(total.decrypt(), 2.5, atol=1e-6)


def serve_http(stage: Stage, address: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = f"127.0.0.1:{free.getsockname()[1]}"
    line = "sangam gateway --address hub:7443 --identity operator --listen 127.0.0.1:8080"
    gateway = stage.start(line, **address, **{"127.0.0.1:8080": port})
    heard(gateway, port)
    gateway.terminate()
    gateway.communicate(timeout=TIMEOUT_S)
