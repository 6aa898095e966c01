"""One round as its server traces it: the round, its steps, and the work of each that takes a thread."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import INVALID_SPAN, Span, get_current_span

from aggregator import tracing
from aggregator.protocol.parameters import Mode
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind

ADD = "add"


class RoundTrace:
    """The spans of one round.

    Args:
        authority: the fingerprint of the consortium's authority.
        task, number, mode: of the round.
    """

    def __init__(self, authority: bytes, task: str, number: int, mode: Mode) -> None:
        root = tracing.of_round(authority, task, number)
        self._round = tracing.begun_root("round", root, {"task": task, "round": number, "mode": mode})
        self._step: Span = INVALID_SPAN
        self._answers = 0

    def step(self, event: RoundEvent) -> None:
        """A step begins, or the round gathers."""
        self._end_step()
        name = event.step or event.kind
        self._step = tracing.begun(name, tracing.under(self._round), {"step": name, "clients": event.clients})

    def answered(self) -> None:
        """One more has answered in this step."""
        self._answers += 1

    def dropped(self, event: RoundEvent) -> None:
        """The step goes on without a site."""
        self._step.add_event(event.kind, {"sangam.site": event.client})

    def end(self, event: RoundEvent) -> None:
        """The round has ended."""
        self._end_step()
        tracing.note(self._round, {"outcome": event.kind, "clients": event.clients, "detail": event.detail})
        if event.kind == EventKind.FAILED:
            self._round.set_status(tracing.FAILED)
        self._round.end()

    @contextmanager
    def working(self, part: str) -> Iterator[None]:
        """An upload's adding is under the call that brought it, all else under the step."""
        step, _, verb = part.partition(" ")
        brought = verb == ADD and get_current_span().get_span_context().is_valid
        with tracing.span(verb, None if brought else tracing.under(self._step), {"step": step}):
            yield

    def _end_step(self) -> None:
        tracing.note(self._step, {"answers": self._answers})
        self._step.end()
        self._step, self._answers = INVALID_SPAN, 0
