"""The command as its users meet it: help, errors in one sentence, and a round from end to end."""

import asyncio
import re
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from aggregator import __main__ as command
from aggregator.arrays import read_arrays, write_arrays
from tests.typed import ended, sangam

SITES = ("apollo", "cmc", "delhi")


def commands(group=None, path=()):
    """Every command and group, with the words that call it."""
    group = group or typer.main.get_command(command.app)
    yield path, group
    for name, inner in getattr(group, "commands", {}).items():
        yield from commands(inner, (*path, name))


def test_there_is_no_other_command():
    leaves = {" ".join(path) for path, found in commands() if not hasattr(found, "commands")}
    identities = {f"pki {word}" for word in ("init", "request", "issue", "install", "renew", "revoke", "list", "show")}
    assert leaves == identities | {
        "serve",
        *(f"task {word}" for word in ("create", "list", "show", "cancel", "delete")),
        *(f"round {word}" for word in ("run", "start", "watch", "list", "show", "abort", "fetch", "forget")),
        *(f"keyholder {word}" for word in ("init", "serve")),
        "audit verify",
        "auditor serve",
        "site list",
        "ckks sum",
        "join",
        "run",
        "demo",
        "bench",
        "simulate",
        "gateway",
        "version",
        "status",
        "doctor",
        "config check",
        "config show",
    }


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_help_says_what_a_newcomer_needs(path):
    """An explanation, an example that begins with the command, and words for every option."""
    result = CliRunner().invoke(command.app, [*path, "--help"], terminal_width=200)
    assert result.exit_code == 0
    found = dict(commands())[path]
    assert found.help
    if hasattr(found, "commands"):
        return
    assert f"Example: [bold]sangam {' '.join(path)}" in found.help
    assert "Example: sangam" in result.output
    for parameter in found.params:
        assert parameter.name == "help" or parameter.help, f"{parameter.name} is not explained"


def test_version():
    result = CliRunner().invoke(command.app, ["version"])
    assert re.fullmatch(r"sangam \d+\.\d+\.\d+\S*, protocol 1\n", result.output)


@pytest.fixture
def files(tmp_path):
    write_arrays(tmp_path / "update.npz", {"w": np.zeros(2)})
    (tmp_path / "garbage").write_bytes(b"garbage")
    return tmp_path


JOIN = ["join", "--address", "localhost:1", "--weight", "5"]
LAYERS = ["--exclude", "head.*"]
WHERE = ["--address", "localhost:1", "--identity", "nowhere"]
CREATE = ["task", "create", "t", *WHERE]
ERRORS = [
    ([*JOIN, "--identity", "nowhere", "--update", "none.npz"], "cannot read none.npz: No such file or directory"),
    ([*JOIN, "--identity", "nowhere", "--update", "garbage"], "garbage is not an .npz file of numeric arrays"),
    ([*JOIN, "--identity", "nowhere", "--update", "update.npz"], "cannot read nowhere/key.pem: No such file"),
    ([*JOIN, "--identity", "nowhere", "--update", "update.npz", "--out", "no/m.npz"], "cannot write no/m.npz"),
    (CREATE, "say what the update looks like: either --like FILE.npz or --tensor name=shape"),
    ([*CREATE, "--tensor", "w=3", "--mode", "quick"], "--mode quick: there are auto, pairwise, lattice"),
    ([*CREATE, "--tensor", "w=3xx"], "--tensor w=3xx: expected name=30x2, or name= for a scalar"),
    ([*CREATE, "--tensor", "w"], "cannot read nowhere/key.pem"),
    ([*CREATE, "--tensor", "w=3", "--tensor-clip", "w=much"], "--tensor-clip w=much: expected name=0.5"),
    ([*CREATE, "--tensor", "w=3", "--tensor-clip", "v=1"], "--tensor-clip v: the update has no such tensor"),
    ([*CREATE, "--tensor", "w=3", "--exclude", "bn*"], "the pattern 'bn*' matches none of 1 tensors: w"),
    ([*CREATE, "--tensor", "w=3", "--exclude", "*"], "of 1 tensors none is selected: w"),
    ([*CREATE, "--tensor", "w=3", "--tensor", "h=", "--include", "w", "--tensor-clip", "h=1"], "has no such tensor"),
    ([*JOIN, "--identity", "nowhere", "--update", "update.npz", "--include", "b"], "pattern 'b' matches none"),
    (["round", "start", "t", *WHERE, "--base", "update.npz", "--exclude", "b"], "pattern 'b' matches none"),
    (
        ["ckks", "sum", "none.ckks", *WHERE, "--out", "no/sum.ckks"],
        "cannot write no/sum.ckks: its directory must exist",
    ),
    ([*CREATE, "--tensor", "w=3", "--clients-max", "10000", "--value-bits", "54"], "the ring has at most 64"),
    (["round", "run", "t", *WHERE, "--out", "no/m.npz"], "cannot write no/m.npz: its directory must exist"),
    (["site", "list", *WHERE], "cannot read nowhere/key.pem"),
    (["serve", "--identity", "nowhere", "--roster", "garbage"], "cannot read nowhere/key.pem"),
    (["pki", "issue", "garbage", "--authority", "nowhere"], "not a signing request that can be read"),
    (["pki", "list", "--authority", "nowhere"], "cannot read nowhere/issued.jsonl"),
    (["pki", "init", "c", "--deployment", "Not A Name"], "use 1 to 63 of a-z"),
]


@pytest.mark.parametrize(("arguments", "sentence"), ERRORS, ids=[sentence for _, sentence in ERRORS])
def test_an_error_is_one_sentence_and_exit_code_1(files, monkeypatch, refusal, arguments, sentence):
    monkeypatch.chdir(files)
    assert sentence in refusal(*arguments)


def pki(*arguments):
    result = CliRunner().invoke(command.app, ["pki", *map(str, arguments)])
    assert result.exit_code == 0, result.output


def enrol(home: Path, name: str, *more: str) -> Path:
    """The whole flow of one site, as the help tells it."""
    pki("request", name, "--deployment", "demo", "--out", home / name, *more)
    role = more[:2]
    file = home / f"{name}.pem"
    pki("issue", home / name / "request.pem", "--authority", home / "consortium", "--out", file, *role)
    pki("install", file, "--identity", home / name)
    return home / name


async def line_with(process, text):
    """Read until a line of stderr holds the text."""
    async for line in process.stderr:
        if text in line.decode():
            return line.decode()
    raise AssertionError(f"{text!r} never came")


class Consortium:
    """Directories on a disk, made by the command alone."""

    def __init__(self, home):
        self.home, self.running = home, []
        pki("init", home / "consortium", "--deployment", "demo")
        self.hub = enrol(home, "hub", "--role", "aggregator", "--host", "localhost")
        self.operator = enrol(home, "operator", "--role", "operator")
        self.updates = {name: np.linspace(-1, 1, 6).reshape(2, 3) * i for i, name in enumerate(SITES, start=1)}
        for name in SITES:
            layers = {"w": self.updates[name], "head.w": np.zeros(len(name))}  # the head stays at its site
            write_arrays(enrol(home, name) / "update.npz", layers)

    async def start(self, *arguments):
        self.running.append(await sangam(*arguments))
        return self.running[-1]

    async def serve(self):
        roster = self.home / "consortium" / "roster.json"
        server = await self.start("serve", "--identity", self.hub, "--roster", roster, "--listen", "localhost:0")
        self.address = (await line_with(server, "listening on")).split()[-1]
        return server

    async def lead(self, *more, out):
        where = ("--address", self.address, "--identity", self.operator)
        like = ("--like", self.home / "cmc" / "update.npz")
        said, _ = await ended(await self.start("task", "create", "lungs", *where, *like, *LAYERS, *more))
        assert said == "Task lungs is created: 6 values in 1 tensors, pairwise mode.\n"
        leader = await self.start("round", "run", "lungs", *where, "--out", out)
        await line_with(leader, "advertise keys")
        return leader

    async def join(self, name, weight):
        home = self.home / name
        words = ("join", "--address", self.address, "--identity", home, "--update", home / "update.npz")
        return await self.start(*words, "--weight", weight, *LAYERS, "--out", home / "mean.npz")


async def test_a_round_from_end_to_end(tmp_path):
    """pki, all of an enrolment; serve; a round that waits for its sites; three joins; the mean on everybody's disk."""
    here = Consortium(tmp_path)
    weights = {name: 10 * i for i, name in enumerate(SITES, start=1)}
    try:
        async with asyncio.timeout(60):
            server = await here.serve()
            mean = tmp_path / "mean.npz"
            leader = await here.lead("--weight-max", 100, "--clip", 4, out=mean)
            joins = [await here.join(name, weight) for name, weight in weights.items()]
            said = await asyncio.gather(*map(ended, joins))
            led, watched = await ended(leader)
            server.send_signal(signal.SIGTERM)
            _, last_words = await ended(server)
    finally:
        for process in here.running:
            with suppress(ProcessLookupError):
                process.kill()
    for out, err in said:
        assert "mean over 3 sites, total weight 60" in out
        assert "unmasking" in err
    assert "mean over 3 sites (apollo, cmc, delhi), total weight 60" in led
    assert "closed with 3 sites" in watched
    assert "sangam: stopping" in last_words
    got = read_arrays(mean)["w"]
    expected = sum(weights[name] * here.updates[name] for name in SITES) / 60
    assert np.abs(got - expected).max() < 3 * 4 / 32767 * 100 / 20
    for name in SITES:
        assert np.array_equal(read_arrays(tmp_path / name / "mean.npz")["w"], got)
