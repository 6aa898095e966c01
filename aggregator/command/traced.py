"""Where the spans of a process go: as OpenTelemetry's own OTEL_... in the environment says, by default nowhere."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aggregator.errors import ParameterError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

_LOG = logging.getLogger(__name__)

EXPORTER: Final = "OTEL_TRACES_EXPORTER"
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
NAMED: Final = "OTEL_SERVICE_NAME"


@contextmanager
def tracing_as_told(name: str) -> Iterator[None]:
    """Send this process's spans over OTLP until the block ends, if the environment says so.

    Args:
        name: of the service, where OTEL_SERVICE_NAME gives no other.

    Raises:
        ParameterError: another exporter than OTLP's is asked for.
    """
    if not _wanted():
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as missing:
        _LOG.warning("traces are asked for, and need %s: pip install 'sangam[otel]'", str(missing.name))
        yield
        return
    from opentelemetry import trace

    provider = provided(BatchSpanProcessor(OTLPSpanExporter()), name)
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()


def provided(processor: "SpanProcessor", name: str) -> "TracerProvider":
    """A provider in whose traces a round's root has the numbers that all its participants know."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    from aggregator.tracing import ROOT, GivesRoots

    class RoundIds(RandomIdGenerator, GivesRoots):
        def generate_trace_id(self) -> int:
            root = ROOT.get()
            return super().generate_trace_id() if root is None else root.trace_id

        def generate_span_id(self) -> int:
            root = ROOT.get()
            return super().generate_span_id() if root is None else root.span_id

    resource = Resource.create({SERVICE_NAME: os.environ.get(NAMED) or name})
    provider = TracerProvider(resource=resource, id_generator=RoundIds())
    provider.add_span_processor(processor)
    return provider


def _wanted() -> bool:
    exporter = os.environ.get(EXPORTER, "")
    if exporter not in {"", "otlp", "none"}:
        raise ParameterError(f"{EXPORTER} must be otlp or none, not {exporter[:80]!r}")
    if exporter == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return exporter == "otlp" or any(os.environ.get(endpoint) for endpoint in ENDPOINTS)
