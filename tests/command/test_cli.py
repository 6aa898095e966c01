"""The command as its users meet it: help, errors in one sentence, and a round from end to end."""

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from aggregator import __main__ as command
from aggregator.command.arrays import read_arrays, write_arrays

SITES = ("apollo", "cmc", "delhi")


def commands(group=None, path=()):
    """Every command and group, with the words that call it."""
    group = group or typer.main.get_command(command.app)
    yield path, group
    for name, inner in getattr(group, "commands", {}).items():
        yield from commands(inner, (*path, name))


def test_the_commands_are_those_that_the_readme_names():
    leaves = {" ".join(path) for path, found in commands() if not hasattr(found, "commands")}
    assert leaves == {"pki init", "pki request", "pki issue", "serve", "round", "join", "demo", "version"}


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
ROUND = ["round", "--address", "localhost:1", "--identity", "nowhere", "--task", "t"]
ERRORS = [
    ([*JOIN, "--identity", "nowhere", "--update", "none.npz"], "cannot read none.npz: No such file or directory"),
    ([*JOIN, "--identity", "nowhere", "--update", "garbage"], "garbage is not an .npz file of numeric arrays"),
    ([*JOIN, "--identity", "nowhere", "--update", "update.npz"], "cannot read nowhere/key.pem: No such file"),
    ([*JOIN, "--identity", "nowhere", "--update", "update.npz", "--out", "no/m.npz"], "cannot write no/m.npz"),
    (ROUND, "say what the update looks like: either --like FILE.npz or --tensor name=shape"),
    ([*ROUND, "--tensor", "w=3xx"], "--tensor w=3xx: expected name=30x2, or name= for a scalar"),
    ([*ROUND, "--tensor", "w"], "cannot read nowhere/key.pem"),
    ([*ROUND, "--tensor", "w=3", "--clients-max", "10000", "--value-bits", "54"], "the ring has at most 64"),
    ([*ROUND, "--tensor", "w=3", "--out", "no/m.npz"], "cannot write no/m.npz: its directory must exist"),
    (["serve", "--identity", "nowhere", "--roster", "garbage"], "cannot read nowhere/key.pem"),
    (["pki", "issue", "garbage", "--authority", "nowhere", "--out", "x"], "cannot read nowhere/"),
    (["pki", "init", "c", "--deployment", "Not A Name"], "use 1 to 63 of a-z"),
]


@pytest.mark.parametrize(("arguments", "sentence"), ERRORS, ids=[sentence for _, sentence in ERRORS])
def test_an_error_is_one_sentence_and_exit_code_1(files, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "argv", ["sangam", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert said.out == ""
    assert said.err.startswith("sangam: ")
    assert sentence in said.err
    assert said.err.count("\n") == 1


def sangam(*arguments, **options):
    words = [sys.executable, "-W", "error", "-m", "aggregator", *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def pki(*arguments):
    result = CliRunner().invoke(command.app, ["pki", *map(str, arguments)])
    assert result.exit_code == 0, result.output


def enrol(home: Path, name: str, *more: str) -> Path:
    """The whole flow of one site, as the help tells it."""
    pki("request", name, "--deployment", "demo", "--out", home / name, *more)
    role = more[:2]
    pki("issue", home / name / "request.pem", "--authority", home / "consortium", "--out", home / f"{name}-out", *role)
    for file in (home / f"{name}-out").iterdir():
        file.rename(home / name / file.name)
    return home / name


def ended(process, code=0):
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


def line_with(stream, text):
    """Read until a line holds the text."""
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"{text!r} never came")


def test_a_round_from_end_to_end(tmp_path):
    """pki init, request, issue; serve; a round that waits for its sites; three joins; the mean on everybody's disk."""
    pki("init", tmp_path / "consortium", "--deployment", "demo")
    hub = enrol(tmp_path, "hub", "--role", "aggregator", "--host", "localhost")
    operator = enrol(tmp_path, "operator", "--role", "operator")
    updates = {name: np.linspace(-1, 1, 6).reshape(2, 3) * i for i, name in enumerate(SITES, start=1)}
    for name in SITES:
        write_arrays(enrol(tmp_path, name) / "update.npz", {"w": updates[name]})
    roster = tmp_path / "consortium" / "roster.json"
    server = sangam("serve", "--identity", hub, "--roster", roster, "--listen", "localhost:0")
    running = [server]
    try:
        address = line_with(server.stderr, "listening on").split()[-1]
        common = ("--address", address)
        like = ("--like", tmp_path / "cmc" / "update.npz", "--weight-max", 100, "--clip", 4)
        mean = tmp_path / "mean.npz"
        leader = sangam("round", *common, "--identity", operator, "--task", "lungs", *like, "--out", mean)
        running.append(leader)
        line_with(leader.stderr, "is open; waiting for the sites")

        def join(name, weight):
            home = tmp_path / name
            out = ("--update", home / "update.npz", "--weight", weight, "--out", home / "mean.npz")
            return sangam("join", *common, "--identity", home, *out)

        joins = [join(name, 10 * i) for i, name in enumerate(SITES, start=1)]
        running += joins
        with ThreadPoolExecutor() as pool:
            said = list(pool.map(ended, joins))
        for out, err in said:
            assert "mean over 3 sites, total weight 60" in out
            assert "unmasking" in err
        out, err = ended(leader)
        assert "mean over 3 sites (apollo, cmc, delhi), total weight 60" in out
        assert "closed with 3 sites" in err
        expected = sum(10 * i * updates[name] for i, name in enumerate(SITES, start=1)) / 60
        got = read_arrays(mean)["w"]
        assert np.abs(got - expected).max() < 3 * 4 / 32767 * 100 / 20
        for name in SITES:
            assert np.array_equal(read_arrays(tmp_path / name / "mean.npz")["w"], got)
        again = sangam(
            "join", *common, "--identity", operator, "--update", tmp_path / "cmc" / "update.npz", "--weight", 1
        )
        _, err = ended(again, code=1)
        assert err.strip() == "sangam: operator is certified as operator, not as participant"
        server.send_signal(signal.SIGTERM)
        _, err = ended(server)
        assert "sangam: stopping" in err
    finally:
        for process in running:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.communicate()
