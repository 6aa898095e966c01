"""A round is one trace across server and clients, and nothing secret is in it."""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from aggregator import tracing
from aggregator.command.traced import provided, tracing_as_told
from aggregator.errors import ParameterError
from aggregator.wire.vocabulary import MASKED_STEPS
from tests.consortium import TASK, Consortium
from tests.loopback import check_mean, hub, offers, parameters

MARK = "7ea5ec4e7"
N = 4
UPLOAD = "sangam.v1.Aggregation/Upload"


@pytest.fixture
def provider(monkeypatch):
    """A provider that keeps its spans in `kept`, in the place of the process's for the time of a test."""
    exporter = InMemorySpanExporter()
    made = provided(SimpleSpanProcessor(exporter), "tests")
    made.kept = exporter.get_finished_spans
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: made)
    yield made
    made.shutdown()


def test_everybody_knows_the_root_of_a_round_and_no_two_rounds_share_it():
    authority = Consortium.of(2).authority.certificate.fingerprint
    root = tracing.of_round(authority, TASK, 7)
    assert root == tracing.of_round(authority, TASK, 7)
    assert root.is_valid
    others = [(bytes(32), TASK, 7), (authority, "lungs", 7), (authority, TASK, 8)]
    assert len({root.trace_id, *(tracing.of_round(*other).trace_id for other in others)}) == 4


async def test_a_round_is_one_connected_trace(provider, tmp_path):
    offered, spec = offers(N, shape=(5_000,)), parameters((5_000,))
    async with hub(tmp_path, N) as h:
        await h.create(spec)
        run = await h.run_round(offered, dies={3: "masked_input"})
        check_mean(run, offered, range(3), spec.ring_bits)
    spans = provider.kept()
    by_id = {one.context.span_id: one for one in spans}
    assert len({one.context.trace_id for one in spans}) == 1
    assert len(by_id) == len(spans)

    def path(one):
        return [*(path(by_id[one.parent.span_id]) if one.parent else ()), one.name]

    paths = sorted(tuple(path(one)) for one in spans)
    assert paths.count(("round",)) == 1, "the one root"
    assert paths.count(("round", "contribute")) == N
    for step in MASKED_STEPS:
        assert paths.count(("round", step)) == 1
        assert paths.count(("round", step, "finish")) == 1
        answered = N - (step not in ("advertise_keys", "share_keys", "masked_input"))
        assert paths.count(("round", "contribute", step)) == answered, step
    brought = ("round", "contribute", "masked_input", "upload", UPLOAD)
    assert paths.count(brought) == paths.count((*brought, "add")) == 3
    assert paths.count(("round", "contribute", "fetch result")) == 3

    root = next(one for one in spans if one.name == "round")
    authority = h.consortium.authority.certificate.fingerprint
    assert root.context.span_id == tracing.of_round(authority, TASK, run.number).span_id
    assert root.attributes["sangam.task"] == TASK
    assert root.attributes["sangam.round"] == run.number
    assert (root.attributes["sangam.outcome"], root.attributes["sangam.clients"]) == ("closed", 3)
    uploads = [one for one in spans if one.name == "upload"]
    assert [one.attributes["sangam.bytes"] for one in uploads] == [spec.upload_plan.payload_bytes] * 3
    served = [one for one in spans if one.name == UPLOAD]
    assert {one.kind for one in served} == {SpanKind.SERVER}
    step = next(one for one in spans if one.name == "masked_input" and one.parent.span_id == root.context.span_id)
    assert step.attributes["sangam.answers"] == 3
    assert [(event.name, event.attributes["sangam.site"]) for event in step.events] == [("dropped", "site-0003")]


async def test_a_round_that_fails_and_a_client_that_refuses_are_marked(provider, tmp_path):
    async with hub(tmp_path, 2) as h:
        await h.create(parameters())
        await h.run_round(offers(2), refuses={1: "share_keys"})
    spans = provider.kept()
    root = next(one for one in spans if one.name == "round")
    assert root.status.status_code is StatusCode.ERROR
    assert root.attributes["sangam.detail"] in {f"share keys: {answers} clients, need 2" for answers in (0, 1)}
    ends = {one.attributes["sangam.site"]: one.status.description for one in spans if one.name == "contribute"}
    assert ends == {"site-0000": "RoundAborted", "site-0001": "SangamError"}


async def test_a_round_stands_in_its_own_trace_and_links_to_its_callers(provider, tmp_path):
    offered = offers(2)
    async with hub(tmp_path, 2) as h:
        await h.create(parameters())
        with tracing.span("training") as outer:
            await h.run_round(offered)
    spans = provider.kept()
    mine = outer.get_span_context()
    for one in (one for one in spans if one.name == "contribute"):
        assert [link.context.span_id for link in one.links] == [mine.span_id]
        assert one.context.trace_id != mine.trace_id
    started = next(one for one in spans if one.name == "sangam.v1.Operator/StartRound")
    assert started.parent.span_id == mine.span_id
    root = next(one for one in spans if one.name == "round")
    assert [link.context.span_id for link in root.links] == [started.context.span_id]
    assert not [one for one in spans if one.links and one.name not in {"round", "contribute"}]


def test_attributes_and_errors_say_nothing_secret(provider):
    secrets = {"seed": MARK.encode(), "share": [MARK], "vector": np.array([MARK]), "number": 2**255, "none": None}
    with pytest.raises(ValueError, match=MARK), tracing.span("work", facts=secrets):
        raise ValueError(MARK)
    (one,) = provider.kept()
    assert dict(one.attributes) == {
        "sangam.seed": "<bytes>",
        "sangam.share": "<list>",
        "sangam.vector": "<ndarray>",
        "sangam.number": "<int>",
    }
    assert one.status.description == "ValueError"
    assert MARK not in one.to_json()


@pytest.mark.parametrize("said", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", b"00", "x" * 10_000])
def test_a_call_that_says_nothing_of_use_is_part_of_nothing(said):
    assert tracing.incoming([("user-agent", "grpc"), (tracing.TRACEPARENT, said)]) is None


def test_what_goes_out_comes_in(provider):
    assert tracing.outgoing() == ()
    with tracing.span("here") as here:
        context = tracing.incoming(tracing.outgoing())
    assert trace.get_current_span(context).get_span_context().span_id == here.get_span_context().span_id


def test_under_another_provider_a_round_is_under_its_root(monkeypatch):
    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)
    root = tracing.of_round(bytes(32), TASK, 7)
    span = tracing.begun_root("round", root, {})
    assert span.get_span_context().trace_id == root.trace_id
    assert span.parent.span_id == root.span_id


def test_without_a_word_in_the_environment_nothing_is_sent(monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(trace, "set_tracer_provider", never)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    with tracing_as_told("tests"):
        pass
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:1")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    with tracing_as_told("tests"):
        pass


def test_spans_go_where_the_environment_says(monkeypatch):
    """A collector of OTLP that keeps what it is sent; the process's provider is set once, so here by another name."""
    sent, set_to = [], []

    def export(data, _):
        sent.append(data)
        return b""

    methods = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("opentelemetry.proto.collector.trace.v1.TraceService", methods)]
    )
    port = server.add_insecure_port("localhost:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://localhost:{port}")
    monkeypatch.setattr(trace, "set_tracer_provider", set_to.append)
    try:
        with tracing_as_told("sangam-tests"):
            set_to[0].get_tracer("tests").start_span("a span of the tests").end()
    finally:
        server.stop(None).wait()
    assert b"a span of the tests" in b"".join(sent)
    assert b"sangam-tests" in b"".join(sent)


def test_without_the_sdk_the_process_goes_on_and_says_so(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with tracing_as_told("tests"):
        pass
    assert "pip install 'sangam[otel]'" in caplog.text


def test_an_exporter_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(ParameterError, match="must be otlp or none, not 'zipkin'"), tracing_as_told("tests"):
        pass
