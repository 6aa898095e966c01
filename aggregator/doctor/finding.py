"""What a check says: how bad it is, in a sentence, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum

from aggregator.wire.vocabulary import sentence


class Level(StrEnum):
    """How bad it is."""

    GOOD = "good"
    WARNING = "warning"  # works now
    FAULT = "fault"
    SKIPPED = "skipped"  # an earlier fault is in the way


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's answer; texts come from foreign certificates and proxies too, so control characters are dropped."""

    check: str
    level: Level
    says: str
    remedy: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "says", sentence(self.says))
        object.__setattr__(self, "remedy", sentence(self.remedy))


@dataclass(frozen=True, slots=True)
class Opinion:
    """A finding before it has its check's name."""

    says: str
    level: Level = Level.GOOD
    remedy: str = ""

    def of(self, check: str) -> Finding:
        """The finding of that check."""
        return Finding(check, self.level, self.says, self.remedy)


def warning(says: str, remedy: str) -> Opinion:
    """It works, but not for long, or not as meant."""
    return Opinion(says, Level.WARNING, remedy)


def fault(says: str, remedy: str) -> Opinion:
    """It cannot work."""
    return Opinion(says, Level.FAULT, remedy)
