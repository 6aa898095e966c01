"""What a run has seen: counted as it happens, and one JSON object at the end."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from time import monotonic
from typing import Any, Final

COMPLETED_LEAST: Final = 0.95
HOPELESS: Final = 5
NUMBER: Final = re.compile(r"\d{9,}")  # of a round, in a sentence
GROWTH_MIB_MOST: Final = 64.0  # of a server that has just started: the sums that are kept of each task take 25


@dataclass
class Tally:
    """Counts. Lists are of sentences, each one a failure of the run."""

    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    completed: int = 0
    by_mode: Counter[str] = field(default_factory=Counter)
    aborted: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # files
    alarms: list[str] = field(default_factory=list)  # of sites that say the server lied; it did not
    listening_s: list[float] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)
    reached_s: list[float] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)
    left_rounds: Counter[str] = field(default_factory=Counter)
    site_errors: Counter[str] = field(default_factory=Counter)
    start: float = field(default_factory=monotonic)

    @property
    def share(self) -> float:
        """Of the rounds that ended or got stuck, those that gave a sum."""
        return self.completed / self.rounds if self.rounds else 0.0

    @property
    def passed(self) -> bool:
        """Whether all was as it must be."""
        return not self.failures and self.share >= COMPLETED_LEAST

    @property
    def failures(self) -> list[str]:
        """All that must not be."""
        return [*self.wrong, *self.lost, *self.stuck, *self.crashes, *self.left, *self.alarms, *self.grown]

    @property
    def grown(self) -> list[str]:
        """Whether a server that has just started holds much more at the end than at the beginning."""
        sizes = _growth(self.rss_bytes)
        grown = sizes["last"] - sizes["first"] if sizes else 0.0
        return [f"the server has grown by {grown:.0f} MiB"] if grown > GROWTH_MIB_MOST else []

    @property
    def hopeless(self) -> bool:
        """Whether it makes no sense to go on."""
        return len(self.stuck) + len(self.crashes) >= HOPELESS

    def line(self, **more: Any) -> str:
        """To programs: one JSON object."""
        seconds, kills = monotonic() - self.start, self.kills.total()
        return json.dumps(
            {
                "kills": kills,
                "killed": dict(sorted(self.kills.items())),
                "rounds": self.rounds,
                "completed": self.completed,
                "completed_share": round(self.share, 4),
                "completed_by_mode": dict(sorted(self.by_mode.items())),
                "aborted_with_reason": dict(self.aborted.most_common()),
                "wrong_sums": len(self.wrong),
                "lost_acknowledged": len(self.lost),
                "stuck": len(self.stuck),
                "crashes": len(self.crashes),
                "files_left": len(self.left),
                "false_alarms": len(self.alarms),
                "seconds": round(seconds, 1),
                "seconds_per_kill": round(seconds / kills, 2) if kills else None,
                "start_to_listening_s": _spread(self.listening_s),
                "listening_to_next_answer_s": _spread(self.reached_s),
                "kill_to_next_answer_s": _spread(self.answered_s),
                "server_mib_at_start": _growth(self.rss_bytes),
                "faults": dict(sorted(self.faults.items())),
                "left_rounds": dict(self.left_rounds.most_common()),
                "site_errors": dict(self.site_errors.most_common()),
                **more,
            }
        )


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": round(median(seconds), 2), "max": round(max(seconds), 2)} if seconds else {}


def _growth(sizes: list[int]) -> dict[str, float]:
    """The first and the last of many starts, each as the median of a few."""
    few = max(1, len(sizes) // 5)
    return {"first": _mib(sizes[:few]), "last": _mib(sizes[-few:])} if sizes else {}


def _mib(sizes: list[int]) -> float:
    return round(median(sizes) / (1 << 20), 1)
