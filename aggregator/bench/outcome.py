"""What a run measured, round by round, and the figures that people and programs read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from aggregator.bench.disk import Disk
from aggregator.bench.settings import Settings
from aggregator.local.machine import Machine
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind, Step

SETUP = (Step.ADVERTISE_KEYS, Step.SHARE_KEYS, Step.PUBLISH_KEY, Step.COMMIT_INPUT, Step.FREEZE)
STREAMING = (Step.MASKED_INPUT, Step.UPLOAD)
"""The steps of all modes; a round has those of its own."""

SUSTAINED = 0.5
"""A disk sustains a round that it alone would take at most this part of the time for that the round takes unwritten."""


@dataclass(frozen=True, slots=True)
class PlainRound:
    """One plain round.

    Attributes:
        stream_s: from the start signal until the sum was there.
        exact: whether it is the sum of the survivors' values.
        peak_bytes: the server's, resident; -1 where it is not known.
        cpu_seconds: what our code cost the server, by part.
    """

    stream_s: float
    exact: bool
    peak_bytes: int
    cpu_seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SecureRound:
    """One secure round.

    Attributes:
        stream_s: from the start signal until the round had closed: the sum was decoded.
        exact: whether every word of it is the sum of the survivors' words.
        peak_bytes: the server's, resident; -1 where it is not known.
        cpu_seconds: what our code cost the server, by part; see `rounds.meter`.
        end_s: from the last whole upload until the round had closed.
        step_s: of every step; in masked input, all wait until the last one stands at the start line.
        sent_bytes: the most that a survivor sent, in all messages.
        written_bytes: what the server had the disk write; -1 where it is not known, 0 where it writes to no disk.
    """

    stream_s: float
    exact: bool
    peak_bytes: int
    cpu_seconds: Mapping[str, float]
    end_s: float
    step_s: Mapping[str, float]
    sent_bytes: int
    written_bytes: int = -1

    @property
    def setup_s(self) -> float:
        """From the round's opening until uploads were taken."""
        return sum(self.step_s.get(step, 0.0) for step in SETUP)

    @property
    def round_s(self) -> float:
        """The whole round, without the time that clients waited at the start line."""
        return self.setup_s + self.stream_s

    @property
    def compute_s(self) -> float:
        """The server's CPU seconds, the key phases left out."""
        return sum(spent for part, spent in self.cpu_seconds.items() if part.split(" ")[0] not in SETUP)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The whole run; `secure` is empty where only plain rounds were asked for, `durable` where none were."""

    settings: Settings
    machine: Machine
    idle_bytes: int
    plain: Sequence[PlainRound]
    secure: Sequence[SecureRound]
    client_s: float | None
    durable: Sequence[SecureRound] = ()
    disk: Disk | None = None

    @property
    def exact(self) -> bool:
        """Whether every sum of every round was."""
        return all(one.exact for one in self.plain) and all(one.exact for one in (*self.secure, *self.durable))

    def figures(self) -> dict[str, Any]:
        """By name, medians over the repeats; None for what a plain run does not have. In docs/bench.md."""
        asked, secure = self.settings, self.secure
        ratios = [masked.stream_s / plain.stream_s for masked, plain in zip(secure, self.plain, strict=False)]
        return {
            **asdict(asked),
            "exact": self.exact,
            "setup_s": _median(one.setup_s for one in secure),
            "plain_stream_s": _median(one.stream_s for one in self.plain),
            "secure_stream_s": _median(one.stream_s for one in secure),
            "stream_ratio": _median(ratios),
            "end_of_round_s": _median(one.end_s for one in secure),
            "step_s": _medians([one.step_s for one in secure]),
            "server_compute_s": _median(one.compute_s for one in secure),
            "server_compute_parts_s": _medians([one.cpu_seconds for one in secure]),
            "plain_compute_s": _median(sum(one.cpu_seconds.values()) for one in self.plain),
            "client_compute_s": self.client_s,
            "bytes_per_value": _median(one.sent_bytes / asked.entries for one in secure),
            "server_idle_rss_bytes": self.idle_bytes if self.idle_bytes > 0 else None,
            "server_peak_rss_bytes": self._peak(secure),
            "plain_peak_rss_bytes": self._peak(self.plain),
            **(self._durability(self.disk) if self.disk is not None else {}),
            "machine": asdict(self.machine),
        }

    def _durability(self, disk: Disk) -> dict[str, Any]:
        """What it costs that nothing is forgotten."""
        pairs = list(zip(self.durable, self.secure, strict=True))
        ephemeral_s = median(one.stream_s for one in self.secure)
        written = _median(one.written_bytes for one in self.durable if one.written_bytes > 0)
        bound_s = None if written is None else disk.bound_s(written)
        return {
            "ephemeral_s": ephemeral_s,
            "durable_s": median(one.stream_s for one in self.durable),
            "durable_ratio": median(kept.stream_s / lost.stream_s for kept, lost in pairs),
            "ephemeral_round_s": median(one.round_s for one in self.secure),
            "durable_round_s": median(one.round_s for one in self.durable),
            "durable_round_ratio": median(kept.round_s / lost.round_s for kept, lost in pairs),
            "durable_step_s": _medians([one.step_s for one in self.durable]),
            "durable_end_of_round_s": median(one.end_s for one in self.durable),
            "durable_peak_rss_bytes": self._peak(self.durable),
            "disk_bytes": written,
            "disk_bytes_per_s": disk.bytes_per_s,
            "fsync_s": disk.fsync_s,
            "disk_bound_s": bound_s,
            "disk_sustains": None if bound_s is None else bound_s <= SUSTAINED * ephemeral_s,
        }

    def _peak(self, rounds: Iterable[PlainRound | SecureRound]) -> float | None:
        return _median(one.peak_bytes - self.idle_bytes for one in rounds if min(one.peak_bytes, self.idle_bytes) > 0)


def end_seconds(events: Sequence[RoundEvent]) -> float:
    """From the last whole upload until the round had closed."""
    uploads = [e.seconds for e in events if e.kind == EventKind.ANSWERED and e.step in STREAMING]
    return events[-1].seconds - max(uploads)


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return median(found) if found else None


def _medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in rounds for name in one)
    return {name: median(one.get(name, 0.0) for one in rounds) for name in names}
