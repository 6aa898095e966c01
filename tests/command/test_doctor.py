"""`sangam doctor` as a site meets it."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from aggregator import __main__ as command
from tests.doctor.stage import closed_port, site
from tests.loopback import hub
from tests.typed import ended, sangam


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def run(*arguments):
    return CliRunner().invoke(command.app, ["doctor", *map(str, arguments)])


async def test_a_site_that_cannot_reach_its_server(tmp_path):
    async with closed_port() as port:
        said = await run_beside(tmp_path, port)
    assert said.exit_code == 1
    lines = said.output.splitlines()
    assert "✓ certificate site-0000 is participant of demo until 2220-01-01" in said.output
    fault = next(i for i, line in enumerate(lines) if line.startswith("✗ TCP"))
    assert f"no answer on port {port}: " in lines[fault]
    assert "firewall" in lines[fault + 1]
    assert "- TLS         not tried: first mend TCP" in lines


def run_beside(tmp_path, port, *more):
    """In another thread, since the command has an event loop of its own."""
    return asyncio.to_thread(run, "--address", f"localhost:{port}", "--identity", site(tmp_path), *more)


async def test_json(tmp_path):
    async with closed_port() as port:
        said = await run_beside(tmp_path, port, "--json")
    told = json.loads(said.output)
    assert said.exit_code == 1
    assert told["sound"] is False
    assert [f["check"] for f in told["findings"] if f["level"] == "fault"] == ["TCP"]


async def test_all_is_well(tmp_path):
    async with hub(tmp_path, 3) as server:
        words = ["--identity", site(tmp_path), "--json", "--address", server.address]
        out, _ = await ended(await sangam("doctor", *words))
    told = json.loads(out)
    assert told["sound"] is True
    assert len(told["findings"]) == 13
    assert not [f for f in told["findings"] if f["level"] == "fault"]


def test_an_address_without_a_port_is_one_sentence(tmp_path, refusal):
    said = refusal("doctor", "--address", "hub", "--identity", tmp_path)
    assert said == "sangam: 'hub' is not host:port, such as hub.example.org:7443 or [::1]:7443\n"
