"""One round as its server counts and notes it."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from aggregator.protocol.parameters import Mode
from aggregator.rounds.observing import Observer
from aggregator.service.telemetry.metrics import Metrics
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind

_LOG = logging.getLogger(__name__)

ENDS: Final = frozenset({EventKind.CLOSED, EventKind.FAILED})
DROPOUTS: Final = frozenset({EventKind.DROPPED, EventKind.WITHDREW})
NOTES: Final[Mapping[str, str]] = {
    EventKind.GATHERING: "the round gathers",
    EventKind.STEP: "the step begins",
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
        task, number, mode: of the round.
    """

    def __init__(self, metrics: Metrics, task: str, number: int, mode: Mode) -> None:
        self._metrics = metrics
        self._task = task
        self._number = number
        self._mode = mode
        self._begun = False
        self._step: RoundEvent | None = None  # that began the present one

    def happened(self, event: RoundEvent) -> None:
        """Count it, and note it."""
        if not self._begun:
            self._begin()
        kind = EventKind(event.kind)
        if kind in {EventKind.STEP, EventKind.GATHERING}:
            self._step_over(event)
            self._step = event if kind is EventKind.STEP else None
        elif kind is EventKind.ANSWERED:
            self._metrics.answers.labels(event.step).inc()
        elif kind in DROPOUTS:
            self._metrics.dropouts.labels(event.step, kind).inc()
        elif kind is EventKind.COMPLAINT:
            self._metrics.complaints.labels(event.step).inc()
        elif kind in ENDS:
            self._step_over(event)
            self._end(event)
        self._note(kind, event)

    def working(self, part: str) -> AbstractContextManager[object]:
        """Nothing yet."""
        return nullcontext()

    def ended(self, cpu_seconds: Mapping[str, float]) -> None:
        """Add what it has cost; what a part within a part was counted twice for, `Meter` has taken off again."""
        for part, seconds in cpu_seconds.items():
            self._metrics.cpu_seconds.labels(part).inc(max(seconds, 0.0))

    def _begin(self) -> None:
        self._begun = True
        self._metrics.started.labels(self._mode).inc()
        self._metrics.running.labels(self._mode).inc()

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
    """Looks on every round of a server: the `Host.observe` of `sangam serve`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def observe(self, task: str, number: int, mode: Mode) -> Observer:
        """Who looks on one round."""
        return RoundTelemetry(self._metrics, task, number, mode)
