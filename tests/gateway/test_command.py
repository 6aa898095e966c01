"""`sangam gateway` as a process of its own."""

import asyncio
import http.client
import re
import signal
import sys
from contextlib import closing

import pytest

from tests.loopback import TOO_LONG_S, operator
from tests.typed import running

ARGUMENTS = ["gateway", "--address", "localhost:1", "--identity"]


def started(directory, *more):
    operator().save(directory / "operator")
    return running(*ARGUMENTS, directory / "operator", *more)


async def test_it_does_not_open_to_all(tmp_path):
    async with started(tmp_path, "--listen", "0.0.0.0:0") as process:
        said = (await process.stderr.readline()).decode()
        assert said.startswith("sangam: 0.0.0.0:0 is not loopback: whoever reaches it would be the operator")
        assert await process.wait() == 1


async def test_it_serves_until_it_is_told_to_stop(tmp_path):
    async with started(tmp_path, "--listen", "127.0.0.1:0") as process:
        said = (await process.stderr.readline()).decode()
        where = re.fullmatch(r"sangam: listening on http://127\.0\.0\.1:(\d+)/v1\n", said)
        assert where, said

        def ask():
            with closing(http.client.HTTPConnection("127.0.0.1", int(where[1]), timeout=TOO_LONG_S)) as line:
                line.request("GET", "/v1")
                return line.getresponse().read()

        assert b"StartRound" in await asyncio.to_thread(ask)
        process.send_signal(signal.SIGTERM)
        rest = await process.stderr.read()
        assert (await process.wait(), rest) == (0, b"")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--token-file", "operator/identity.pem"], "a token needs at least 32 visible ASCII characters"),
        (["--token-file", "none"], "cannot read none: No such file"),
    ],
)
def test_weak_tokens_are_refused(tmp_path, monkeypatch, refusal, more, sentence):
    operator().save(tmp_path / "operator")
    monkeypatch.chdir(tmp_path)
    assert sentence in refusal(*ARGUMENTS, "operator", *more)


def test_it_names_what_is_not_installed(monkeypatch, refusal):
    monkeypatch.delitem(sys.modules, "aggregator.gateway.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "the gateway needs uvicorn: pip install 'sangam[http]'" in refusal(*ARGUMENTS, "operator")
