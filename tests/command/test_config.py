"""`sangam config`, and `sangam serve --config`, as an operator meets them."""

import asyncio
import json
import signal
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aggregator import __main__ as command
from aggregator.crypto.roster import sign_roster
from aggregator.settings import NAMES, read_settings
from tests.consortium import Consortium
from tests.loopback import configured
from tests.typed import running

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def file(tmp_path):
    configured(tmp_path, Consortium.of(3))
    (tmp_path / "hub.toml").write_text('identity = "hub"\nroster = "roster.json"\nlisten = "localhost:0"\n')
    return tmp_path / "hub.toml"


def run(*arguments, environment=None):
    return CliRunner().invoke(command.app, [str(a) for a in arguments], env=environment)


def test_a_configuration_in_order(file):
    result = run("config", "check", file)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "✓ values      the server would listen on localhost:0"
    assert [line[0] for line in lines] == ["✓"] * 10
    assert "roster.json is version 1, with 3 participants" in result.output


def test_what_is_wrong_stands_with_what_to_do_and_ends_with_1(file):
    (file.parent / "hub" / "key.pem").chmod(0o644)
    (file.parent / "roster.json").unlink()
    result = run("config", "check", file)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    faults = [i for i, line in enumerate(lines) if line.startswith("✗")]
    assert [lines[i].split()[1] for i in faults] == ["key", "roster"]
    assert lines[faults[0] + 1].strip().startswith("chmod 600")


def test_the_file_may_be_named_by_the_environment(file):
    assert run("config", "check", environment={"SANGAM_CONFIG": str(file)}).exit_code == 0
    assert run("config", "check").exit_code == 1


def test_findings_as_json(file):
    (file.parent / "roster.json").write_text("{")
    result = run("config", "check", file, "--json")
    assert result.exit_code == 1
    told = json.loads(result.output)
    assert told["sound"] is False
    assert [f["check"] for f in told["findings"] if f["level"] == "fault"] == ["roster"]
    assert set(told["findings"][0]) == {"check", "level", "says", "remedy"}


def test_markup_in_a_value_stays_text(file):
    file.write_text(file.read_text() + "tasks_max = '[bold]7[/bold]'")
    result = run("config", "check", file)
    assert "not '[bold]7[/bold]'" in result.output


def test_the_effective_configuration_and_where_it_comes_from(file):
    result = run("config", "show", file, environment={"SANGAM_TASKS_MAX": "7"})
    rows = {line.split()[0]: line.split()[1:] for line in result.output.splitlines()[1:]}
    assert set(rows) >= set(NAMES)
    assert rows["tasks_max"] == ["7", "SANGAM_TASKS_MAX"]
    assert rows["keepalive_s"] == ["20.0", "default"]
    assert rows["task_creators"] == ["-", "default"]
    told = json.loads(run("config", "show", file, "--json").output)
    assert list(told) == list(NAMES)
    assert told["listen"] == {"value": "localhost:0", "from": f"{file}: listen"}
    assert told["identity"]["value"] == str(file.parent / "hub")


def test_a_wrong_file_is_one_sentence(file, refusal):
    file.write_text("rooster = 1")
    said = refusal("serve", "--config", file)
    assert said.startswith(f"sangam: {file}: rooster is no setting: did you mean roster?; identity is not set")


@asynccontextmanager
async def serving(*arguments):
    """A server in a process of its own, from its first words on."""
    async with running("serve", *arguments) as server:
        assert b"listening on localhost:" in await server.stderr.readline()
        yield server


async def test_serve_reads_the_file_and_options_overrule_it(file):
    file.write_text(file.read_text().replace("localhost:0", "unknown.invalid:1"))
    async with serving("--config", file, "--listen", "localhost:0") as server:
        server.send_signal(signal.SIGTERM)
        assert await server.stderr.read() == b"sangam: stopping\n"
        assert await server.wait() == 0


async def test_serve_with_ckks_warns_before_it_listens(file):
    async with running("serve", "--config", file, "--ckks") as server:
        warning = (await server.stderr.readline()).decode()
        assert warning.startswith("sangam: warning: CKKS sums are offered.")
        for word in (
            "can solve for the secret key",
            "negated sum",
            "approximate",
            "reads every vector",
            "docs/ckks.md",
        ):
            assert word in warning
        assert b"listening on localhost:" in await server.stderr.readline()


async def test_sighup_makes_the_server_read_its_files_again(file):
    consortium, roster = Consortium.of(3), file.parent / "roster.json"
    async with serving("--config", file, "--reload-s", "0") as server:
        roster.write_bytes(sign_roster(consortium.authority, consortium.roster.certificates, 2).to_bytes())
        server.send_signal(signal.SIGHUP)
        assert await server.stderr.readline() == b"sangam: from now on: roster version 2 of 3 sites\n"


def test_the_example_is_valid_and_has_every_setting():
    settings = read_settings(DOCS / "examples" / "sangam.toml")
    assert settings.faults == ()
    assert set(settings.given) == set(NAMES)


def test_the_handbook_has_every_setting_and_its_default():
    table = (DOCS / "operating.md").read_text()
    settings = read_settings(None, {"identity": Path("a"), "roster": Path("b")})
    for name, (value, place) in settings.effective().items():
        row = next(line for line in table.splitlines() if line.startswith(f"| `{name}` |"))
        if place == "default" and value not in (None, ()):
            written = f"{value:g}" if isinstance(value, float) else str(value).lower()
            assert row.split("|")[2].strip().strip("`") == written


async def test_serve_writes_objects_of_json_and_shows_metrics_when_told(file):
    options = ("--log-format", "json", "--metrics", "127.0.0.1:0", "--insecure-loopback")
    async with running("serve", "--config", file, *options) as server:
        told = [json.loads(await server.stderr.readline()) for _ in range(2)]
        assert [line["level"] for line in told] == ["info", "info"]
        assert told[1]["event"].startswith("listening on localhost:")
        url = told[0]["event"].removeprefix("metrics on ")
        with await asyncio.to_thread(urllib.request.urlopen, url) as answer:
            assert b"sangam_rounds_started_total" in answer.read()
        server.send_signal(signal.SIGTERM)
        assert json.loads(await server.stderr.read())["event"] == "stopping"


def test_serve_refuses_to_show_metrics_in_the_clear_to_others(file, refusal):
    said = refusal("serve", "--config", file, "--metrics", "0.0.0.0:0", "--insecure-loopback")
    assert said.startswith("sangam: metrics: 0.0.0.0:0 is not loopback")
