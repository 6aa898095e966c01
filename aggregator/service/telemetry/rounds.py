"""One round as its server counts and notes it."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from aggregator.protocol.parameters import Mode
from aggregator.rounds.observing import Observer
from aggregator.service.telemetry.metrics import Metrics
from aggregator.service.telemetry.traces import RoundTrace
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind

_LOG = logging.getLogger(__name__)

ENDS: Final = frozenset({EventKind.CLOSED, EventKind.FAILED})
STEPS: Final = frozenset({EventKind.GATHERING, EventKind.STEP, EventKind.RESUMED})
DROPOUTS: Final = frozenset({EventKind.DROPPED, EventKind.WITHDREW})
NOTES: Final[Mapping[str, str]] = {
    EventKind.GATHERING: "the round gathers",
    EventKind.STEP: "the step begins",
    EventKind.RESUMED: "the round goes on, the server was started again",
    EventKind.ANSWERED: "the site has answered",
    EventKind.DROPPED: "the site dropped out",
    EventKind.WITHDREW: "the site withdrew",
    EventKind.REFUSED: "the site's answer is refused",
    EventKind.COMPLAINT: "the site complains",
    EventKind.CLOSED: "the round closed",
    EventKind.FAILED: "the round failed",
}


class RoundTelemetry:
    """Looks on one round of a server. It counts from its first event on, since one that cannot open has none.

    Args:
        metrics: the server's.
        authority: the fingerprint of the consortium's authority.
        task, number, mode: of the round.
    """

    def __init__(self, metrics: Metrics, authority: bytes, task: str, number: int, mode: Mode) -> None:
        self._metrics = metrics
        self._authority = authority
        self._task = task
        self._number = number
        self._mode = mode
        self._trace: RoundTrace | None = None  # from the first event on
        self._step: RoundEvent | None = None  # that began the present one

    def happened(self, event: RoundEvent) -> None:
        """Count it, trace it, note it."""
        trace = self._trace = self._trace or self._begin()
        kind = EventKind(event.kind)
        if kind in STEPS:
            self._step_over(event)
            self._step = event if event.step else None
            trace.step(event)
        elif kind is EventKind.ANSWERED:
            self._metrics.answers.labels(event.step).inc()
            trace.answered()
        elif kind in DROPOUTS:
            self._metrics.dropouts.labels(event.step, kind).inc()
            trace.dropped(event)
        elif kind is EventKind.COMPLAINT:
            self._metrics.complaints.labels(event.step).inc()
        elif kind in ENDS:
            self._step_over(event)
            self._end(event)
            trace.end(event)
        self._note(kind, event)

    def working(self, part: str) -> AbstractContextManager[object]:
        """A span around it."""
        return self._trace.working(part) if self._trace is not None else nullcontext()

    def ended(self, cpu_seconds: Mapping[str, float]) -> None:
        """Add what it has cost; what a part within a part was counted twice for, `Meter` has taken off again."""
        for part, seconds in cpu_seconds.items():
            self._metrics.cpu_seconds.labels(part).inc(max(seconds, 0.0))

    def _begin(self) -> RoundTrace:
        self._metrics.started.labels(self._mode).inc()
        self._metrics.running.labels(self._mode).inc()
        return RoundTrace(self._authority, self._task, self._number, self._mode)

    def _step_over(self, event: RoundEvent) -> None:
        if self._step is not None:
            self._metrics.step_seconds.labels(self._step.step).observe(event.seconds - self._step.seconds)

    def _end(self, event: RoundEvent) -> None:
        self._metrics.running.labels(self._mode).dec()
        self._metrics.ended.labels(self._mode, event.kind).inc()
        self._metrics.round_seconds.labels(self._mode).observe(event.seconds)

    def _note(self, kind: EventKind, event: RoundEvent) -> None:
        level = logging.DEBUG if kind is EventKind.ANSWERED else logging.INFO
        if not _LOG.isEnabledFor(level):
            return
        fields: dict[str, object] = {"task": self._task, "round": self._number, "mode": self._mode}
        told = {"step": event.step, "site": event.client, "clients": event.clients, "detail": event.detail}
        fields |= {name: value for name, value in told.items() if value}
        _LOG.log(level, NOTES[kind], extra=fields | {"seconds": round(event.seconds, 3)})


class RoundsTelemetry:
    """Looks on every round of a server: its `observe` is a `Host.observe`.

    Args:
        metrics: the server's.
        authority: the fingerprint of the consortium's authority.
    """

    def __init__(self, metrics: Metrics, authority: bytes) -> None:
        self._metrics = metrics
        self._authority = authority

    def observe(self, task: str, number: int, mode: Mode) -> Observer:
        """Who looks on one round."""
        return RoundTelemetry(self._metrics, self._authority, task, number, mode)
