"""What a server counts: every metric, with what it means. docs/observing.md has the same table, for people.

Labels have few values each: modes, steps, methods, errors. A site or a task is none of them, since whoever makes tasks
could fill a monitoring system with their names.
"""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, ProcessCollector

PREFIX: Final = "sangam"
CALL_BUCKETS_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0)
ROUND_BUCKETS_S: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0)


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.started = self._counter("rounds_started", "Rounds that were started.", "mode")
        self.ended = self._counter(
            "rounds_ended", "Rounds that ended: closed with a sum, or failed.", "mode", "outcome"
        )
        self.running = self._gauge("rounds_running", "Rounds that gather or run now.", "mode")
        self.round_seconds = self._histogram(
            "round", "From a round's start to its end, gathering included.", ROUND_BUCKETS_S, "mode"
        )
        self.step_seconds = self._histogram("step", "From a step's beginning to its end.", ROUND_BUCKETS_S, "step")
        self.answers = self._counter("answers", "Answers that were taken, uploads among them.", "step")
        self.dropouts = self._counter(
            "dropouts", "Sites that a step went on without: dropped without a word, or withdrew.", "step", "how"
        )
        self.complaints = self._counter("complaints", "Shares that did not decrypt, as their receivers say.", "step")
        self.cpu_seconds = self._counter(
            "cpu", "CPU time of ended rounds, by part of the work.", "part", unit="seconds"
        )
        self.calls = self._counter("calls", "Calls that ended, by gRPC status.", "method", "code")
        self.call_seconds = self._histogram(
            "call", "How long calls took; of streams, how long they were open.", CALL_BUCKETS_S, "method"
        )
        self.refusals = self._counter("refusals", "Calls that ended with an error of ours, by its name.", "error")
        self.received_bytes = self._counter(
            "received", "Bytes of requests; uploads are Upload's.", "method", unit="bytes"
        )
        self.sent_bytes = self._counter(
            "sent", "Bytes of responses; results are FetchResult's.", "method", unit="bytes"
        )
        self.storage_healthy = self._gauge("storage_healthy", "1 while storage works, 0 while it fails.")
        self.storage_healthy.set(1)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def watch(
        self, staging_bytes: Callable[[], float], uploads_waiting: Callable[[], float], sites: Callable[[], float]
    ) -> None:
        """Ask for these whenever the metrics are read."""
        self._gauge("staging_bytes", "Memory that half-arrived uploads take.").set_function(staging_bytes)
        self._gauge("uploads_waiting", "Uploads that wait for room or for their turn.").set_function(uploads_waiting)
        self._gauge("sites_connected", "Sites that are connected to a task.").set_function(sites)

    def _counter(self, name: str, says: str, *labels: str, unit: str = "") -> Counter:
        return Counter(name, says, labels, namespace=PREFIX, unit=unit, registry=self.registry)

    def _gauge(self, name: str, says: str, *labels: str) -> Gauge:
        return Gauge(name, says, labels, namespace=PREFIX, registry=self.registry)

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, says, labels, namespace=PREFIX, unit="seconds", buckets=buckets, registry=self.registry)
