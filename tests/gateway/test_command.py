"""`sangam gateway` as a process of its own."""

import asyncio
import http.client
import re
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager, closing

import pytest

from aggregator import __main__ as command
from tests.loopback import TOO_LONG_S, operator

ARGUMENTS = ["gateway", "--address", "localhost:1", "--identity"]


@asynccontextmanager
async def started(directory, *more):
    operator().save(directory / "operator")
    words = ["-W", "error", "-m", "aggregator", *ARGUMENTS, directory / "operator", *more]
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stderr=PIPE)
    try:
        async with asyncio.timeout(TOO_LONG_S):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


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
def test_weak_tokens_are_refused(tmp_path, monkeypatch, capsys, more, sentence):
    operator().save(tmp_path / "operator")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sangam", *ARGUMENTS, "operator", *more])
    with pytest.raises(SystemExit) as ended:
        command.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert sentence in said
    assert said.count("\n") == 1


def test_it_names_what_is_not_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "aggregator.gateway.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setattr(sys, "argv", ["sangam", *ARGUMENTS, "operator"])
    with pytest.raises(SystemExit):
        command.main()
    assert "the gateway needs uvicorn: pip install 'sangam[http]'" in capsys.readouterr().err
