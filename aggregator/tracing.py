"""Spans, for whoever configures OpenTelemetry; without its SDK all of this does nothing.

All who take part in a round put their spans of it into one trace, and nobody has to tell anybody: its number follows
from the consortium, the task and the round. Attributes are let through as values of the log are (`loglines`), and an
error leaves its name only. Within a trace calls pass its number on as W3C's `traceparent`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from aggregator.loglines import shown

NAME: Final = "sangam"
TRACEPARENT: Final = "traceparent"
TRACE_BYTES: Final = 16
SPAN_BYTES: Final = 8

ROOT: Final[ContextVar[SpanContext | None]] = ContextVar("root", default=None)
"""The numbers that the next root gets, where those of spans come from a `GivesRoots`."""

NO_FACTS: Final[Mapping[str, object]] = {}
FAILED: Final = Status(StatusCode.ERROR)

_PROPAGATOR: Final = TraceContextTextMapPropagator()


class GivesRoots:
    """Marks a generator of numbers that heeds `ROOT`; one of the SDK's others leaves a round's root unknown."""


def of_round(authority: bytes, task: str, number: int) -> SpanContext:
    """The root of a round's trace, the same for all who know the round.

    Args:
        authority: the fingerprint of the consortium's authority.
        task: its name.
        number: of the round, which never recurs in its task.
    """
    digest = sha256(b"sangam round trace\0" + authority + number.to_bytes(8, "big") + task.encode()).digest()
    trace_id, span_id = digest[:TRACE_BYTES], digest[TRACE_BYTES : TRACE_BYTES + SPAN_BYTES]
    return SpanContext(
        int.from_bytes(trace_id, "big"),
        int.from_bytes(span_id, "big"),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


def under(parent: SpanContext | Span) -> Context:
    """The context in which spans are children of this one, whatever else is going on."""
    span = NonRecordingSpan(parent) if isinstance(parent, SpanContext) else parent
    return trace.set_span_in_context(span, Context())


def begun(name: str, context: Context, facts: Mapping[str, object] = NO_FACTS, *, linked: bool = False) -> Span:
    """A span that somebody else will end; it is nobody's parent unless told.

    Args:
        name: what is done.
        context: whose child it is.
        facts: attributes, let through by their type.
        linked: whether it refers to what goes on around it.
    """
    around = trace.get_current_span().get_span_context()
    links = [Link(around)] if linked and around.is_valid else []
    return _tracer().start_span(name, context, attributes=_attributes(facts), links=links)


def begun_root(name: str, root: SpanContext, facts: Mapping[str, object]) -> Span:
    """The span that is a round's root itself, linked; where its numbers cannot be given, one under it."""
    given = isinstance(getattr(trace.get_tracer_provider(), "id_generator", None), GivesRoots)
    token = ROOT.set(root)
    try:
        return begun(name, Context() if given else under(root), facts, linked=True)
    finally:
        ROOT.reset(token)


@contextmanager
def span(
    name: str,
    context: Context | None = None,
    facts: Mapping[str, object] = NO_FACTS,
    kind: SpanKind = SpanKind.INTERNAL,
) -> Iterator[Span]:
    """A span around the block; what the block begins is under it.

    Args:
        name: what is done.
        context: whose child it is; by default of what goes on around it.
        facts: attributes, let through by their type.
        kind: as OpenTelemetry has it.
    """
    made = _tracer().start_span(name, context, kind, _attributes(facts))
    with trace.use_span(made, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield made
        except BaseException as error:
            failed(made, error)
            raise


def failed(made: Span, error: BaseException) -> None:
    """Mark a span with the name of what broke it; never with its words, which are for those whom they concern."""
    made.set_status(Status(StatusCode.ERROR, type(error).__name__))


def note(made: Span, facts: Mapping[str, object]) -> None:
    """Add attributes, let through by their type."""
    made.set_attributes(_attributes(facts))


def rename(name: str) -> None:
    """Give the span around this its name, once it is known what is done in it."""
    trace.get_current_span().update_name(name)


def outgoing() -> tuple[tuple[str, str], ...]:
    """The metadata by which a call tells what it is part of; nothing where it is part of nothing."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return ((TRACEPARENT, carrier[TRACEPARENT]),) if TRACEPARENT in carrier else ()


def incoming(metadata: Iterable[tuple[str, str | bytes]]) -> Context | None:
    """What a call says that it is part of; None where it says nothing, or nothing that can be understood."""
    said = next((value for key, value in metadata if key == TRACEPARENT), None)
    if not isinstance(said, str):
        return None
    context = _PROPAGATOR.extract({TRACEPARENT: said})
    return context if trace.get_current_span(context).get_span_context().is_valid else None


def _tracer() -> trace.Tracer:
    return trace.get_tracer(NAME)


def _attributes(facts: Mapping[str, object]) -> dict[str, str | int | float | bool]:
    written = {f"{NAME}.{name}": shown(value) for name, value in facts.items()}
    return {name: value for name, value in written.items() if value is not None}
