"""The operator API as JSON over HTTP: a real gateway before a real server, asked by the standard library's client."""

import asyncio
import base64
import http.client
import json
import re
import signal
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from aggregator.errors import Disconnected, NotAdmitted, Overloaded, ParameterError
from aggregator.gateway.api import _failed, build
from aggregator.gateway.server import read_token, serve
from aggregator.protocol.context import hash_model
from aggregator.wire._pb import operator_pb2
from aggregator.wire.operator_messages import RoundEvent
from tests.consortium import TASK
from tests.loopback import TOO_LONG_S, aggregator, hub, offers, operator, weighted_mean

JSON = {"Content-Type": "application/json"}
TOKEN = b"0123456789abcdef0123456789abcdef"
HEADERS = {**JSON, "Authorization": f"Bearer {TOKEN.decode()}"}
GUIDE = (Path(__file__).parents[2] / "docs" / "integrating.md").read_text()


def task():
    """The document's, word for word, but for the name and for how long a broken line is waited for."""
    told = json.loads(re.search(r"```json\n(.*?)```", GUIDE, re.DOTALL)[1])
    return told | {"name": TASK, "deadlines": told["deadlines"] | {"reconnect_s": 0.0}}


SPEC = task()


class OneEvent:
    """An aggregator's channel on which a round has one event and goes on for ever, or fails after it."""

    def __init__(self, fails=None):
        self.ended, self.fails = asyncio.Event(), fails

    async def downward(self, method, request, response):
        try:
            yield RoundEvent(0.5, "step", "share_keys", "", "", 3)
            if self.fails is not None:
                raise self.fails
            await asyncio.Event().wait()
        finally:
            self.ended.set()


async def watch(channel):
    """What comes back of WatchRound, whose caller hangs up once it has got something."""
    sent, came = [], asyncio.Event()
    asked = iter([{"type": "http.request", "body": b'{"task": "x", "round": 1}'}])

    async def receive():
        message = next(asked, None)
        if message is None:
            await came.wait()
        return message or {"type": "http.disconnect"}

    async def send(message):
        sent.append(message.get("body", b""))
        if channel.fails is None and sent[-1]:
            came.set()

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    where = {"path": "/v1/WatchRound", "raw_path": b"", "query_string": b"", "root_path": "", "scheme": "http"}
    scope = {"type": "http", "method": "POST", "headers": headers, "asgi": {"spec_version": "2.3"}, **where}
    await build(channel, None)(scope, receive, send)
    return b"".join(sent)


@pytest.mark.parametrize(("told_s", "header"), [(4.25, ("retry-after", "5")), (None, None)])
async def test_when_to_come_back_is_a_header(told_s, header):
    answer = await _failed(None, Overloaded("full", told_s))
    assert answer.status_code == 429
    assert json.loads(answer.body) == {"error": "Overloaded", "detail": "full"}
    assert [pair for pair in answer.headers.items() if pair[0] == "retry-after"] == ([header] if header else [])


async def test_a_caller_who_hangs_up_ends_the_call():
    channel = OneEvent()
    async with asyncio.timeout(TOO_LONG_S):
        assert b"share_keys" in await watch(channel)
        await channel.ended.wait()


async def test_a_stream_that_fails_says_so_in_its_last_line():
    lines = (await watch(OneEvent(Disconnected("the line\nbroke")))).splitlines()
    assert [json.loads(line).get("error") for line in lines] == [None, "Disconnected"]
    assert json.loads(lines[-1])["detail"] == "the line broke"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def lines(self):
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def error(self):
        assert set(self.json) == {"error", "detail"}
        return self.status, self.json["error"]


@dataclass
class Asker:
    """An HTTP client of one gateway."""

    port: int

    async def ask(self, verb, path, body=None, headers=JSON):
        def work():
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as line:
                line.request(verb, path, body, headers)
                answer = line.getresponse()
                return Answer(answer.status, answer.headers, answer.read())

        return await asyncio.to_thread(work)

    async def call(self, method, headers=JSON, **fields):
        return await self.ask("POST", f"/v1/{method}", json.dumps(fields), headers)


@asynccontextmanager
async def gateway(h, token=None):
    async with serve(h.address, operator(), "127.0.0.1:0", token) as port:
        yield Asker(port)


async def test_a_platform_runs_a_round_by_json(tmp_path):
    offered = offers(3)
    async with hub(tmp_path, 3) as h, gateway(h) as asker:
        created = await asker.call("CreateTask", **SPEC)
        assert (created.status, created.json) == (200, {"existed": False})
        assert (await asker.call("CreateTask", **SPEC)).json == {"existed": True}
        sites = [asyncio.create_task(take_part(h, c, *offered[c])) for c in offered]
        fields = {"task": TASK, "model_hash": base64.b64encode(hash_model(None)).decode()}
        started = (await asker.call("StartRound", **fields)).json
        assert started["existed"] is False
        events = await asker.call("WatchRound", task=TASK, round=started["round"])
        assert events.headers["Content-Type"] == "application/x-ndjson"
        assert events.lines[-1]["kind"] == "closed"
        assert events.lines[-1]["clients"] == 3
        result = (await asker.call("FetchResult", task=TASK, round=started["round"])).lines
        got = await asyncio.gather(*sites)
    assert result[0]["header"]["participants"] == ["site-0000", "site-0001", "site-0002"]
    words = base64.b64decode(result[1]["chunk"]["data"])
    assert len(words) == int(result[0]["header"]["payload_bytes"])
    assert np.abs(got[0].mean["x"] - weighted_mean(offered, offered)).max() <= got[0].error_bound


async def take_part(h, client, update, weight):
    async with h.join(client) as session:
        return await session.contribute(update, weight=weight)


async def test_every_method_of_the_service_is_there(tmp_path):
    async with hub(tmp_path, 2) as h, gateway(h) as asker:
        listed = await asker.ask("GET", "/v1")
    methods = operator_pb2.DESCRIPTOR.services_by_name["Operator"].methods
    assert [item["method"] for item in listed.json["methods"]] == [method.name for method in methods]
    watch = next(item for item in listed.json["methods"] if item["method"] == "WatchRound")
    assert watch["streams"] is True
    assert watch["response"] == "sangam.v1.RoundEvent"


async def test_errors_of_the_server_keep_their_names(tmp_path):
    async with hub(tmp_path, 3) as h, gateway(h) as asker:
        assert (await asker.call("WatchRound", task="none-such", round=1)).error == (404, "NotFound")
        assert (await asker.call("FetchResult", task="none-such")).error == (404, "NotFound")
        await asker.call("CreateTask", **SPEC)
        fields = {"task": TASK, "model_hash": base64.b64encode(bytes(32)).decode()}
        await asker.call("StartRound", **fields)
        again = await asker.call("StartRound", **fields)
        assert again.error == (409, "OutOfTurn")
        assert again.json["detail"].count(".") <= 1


DEEP = '{"a":' * 5_000 + "1" + "}" * 5_000


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 400),
        ("[]", 400),
        ('{"task": 5}', 400),
        ('{"tusk": "x"}', 400),
        ('{"task": "x", "model_hash": "AAAA"}', 400),
        ("\xff", 400),
        (DEEP, 400),
        ('{"task": "' + "x" * 100_000 + '"}', 413),
    ],
    ids=["cut", "no object", "type", "unknown field", "31 bytes short", "not UTF-8", "deep", "long"],
)
async def test_bad_bodies_are_refused(tmp_path, body, status):
    async with hub(tmp_path, 2) as h, gateway(h) as asker:
        assert (await asker.ask("POST", "/v1/StartRound", body.encode("latin-1"))).error == (status, "MessageError")


async def test_bad_requests_are_refused(tmp_path):
    async with hub(tmp_path, 2) as h, gateway(h) as asker:
        assert (await asker.call("DropTables")).error == (404, "NotFound")
        assert (await asker.ask("GET", "/elsewhere")).error == (404, "NotFound")
        wrong = await asker.ask("GET", "/v1/StartRound")
        assert wrong.error == (405, "MessageError")
        assert wrong.headers["Allow"] == "POST"
        plain = await asker.ask("POST", "/v1/CancelTask", "{}", {"Content-Type": "text/plain"})
        assert plain.error == (415, "MessageError")
        rebound = await asker.ask("GET", "/v1", None, {"Host": f"evil.example:{asker.port}"})
        assert rebound.error == (403, "NotAdmitted")


async def test_the_token_is_asked_for(tmp_path):
    async with hub(tmp_path, 3) as h, gateway(h, TOKEN) as asker:
        for shown in ("", "Bearer", f"Bearer {TOKEN.decode()[:-1]}", TOKEN.decode(), "Bearer \xff"):
            refused = await asker.ask("GET", "/v1", None, {"Authorization": shown})
            assert refused.error == (401, "NotAdmitted")
        assert (await asker.call("CreateTask", **SPEC)).error == (401, "NotAdmitted")
        assert (await asker.ask("GET", "/v1", None, HEADERS)).status == 200
        assert (await asker.call("CreateTask", HEADERS, **SPEC)).json == {"existed": False}


async def test_an_aggregator_that_is_not_there(tmp_path):
    async with serve("localhost:1", operator(), "127.0.0.1:0", None) as port:
        assert (await Asker(port).call("WatchRound", task=TASK, round=1)).error == (503, "Disconnected")


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ("0.0.0.0:0", "not loopback"),
        ("[::]:0", "not loopback"),
        ("192.0.2.1:0", "not loopback"),
        ("localhost:0", "name an IP address"),
        ("127.0.0.1", "is not host:port"),
        ("127.0.0.1:99999", "is not host:port"),
    ],
)
async def test_where_it_does_not_listen(listen, said):
    with pytest.raises(ParameterError, match=said):
        async with serve("localhost:1", operator(), listen, None):
            pass


async def test_it_leaves_signals_to_whoever_runs_it():
    before = signal.getsignal(signal.SIGTERM)
    async with serve("localhost:1", operator(), "127.0.0.1:0", None) as port:
        assert (await Asker(port).ask("GET", "/v1")).status == 200
        assert signal.getsignal(signal.SIGTERM) is before


async def test_only_an_operator_has_a_gateway():
    with pytest.raises(NotAdmitted, match="not as operator"):
        async with serve("localhost:1", aggregator(), "127.0.0.1:0", None):
            pass


@pytest.mark.parametrize("content", [b"", b"short", b"a" * 31, b"a" * 20 + b" " + b"b" * 20, "ä".encode() * 40])
def test_weak_tokens_are_refused(tmp_path, content):
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ParameterError, match="at least 32"):
        read_token(tmp_path / "token")


def test_a_token_is_read_without_its_newline(tmp_path):
    (tmp_path / "token").write_bytes(TOKEN + b"\n")
    assert read_token(tmp_path / "token") == TOKEN
