"""What a check says: how bad it is, in a sentence, and what to do about it."""

from collections.abc import Iterable
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
    """One check's answer. Its texts may come from a foreign certificate or proxy: control characters are dropped."""

    check: str
    level: Level
    says: str
    remedy: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "says", sentence(self.says))
        object.__setattr__(self, "remedy", sentence(self.remedy))


def good(check: str, says: str) -> Finding:
    """As it should be."""
    return Finding(check, Level.GOOD, says)


def warning(check: str, says: str, remedy: str) -> Finding:
    """It works, but not for long, or not as meant."""
    return Finding(check, Level.WARNING, says, remedy)


def fault(check: str, says: str, remedy: str) -> Finding:
    """It cannot work."""
    return Finding(check, Level.FAULT, says, remedy)


def skipped(checks: Iterable[str], findings: Iterable[Finding]) -> list[Finding]:
    """For checks that cannot be made, or would only repeat the faults among the findings."""
    faults = ", ".join(finding.check for finding in findings if finding.level is Level.FAULT)
    return [Finding(check, Level.SKIPPED, f"not tried: first mend {faults}") for check in checks]


def is_sound(findings: Iterable[Finding]) -> bool:
    """Whether there is no fault among them."""
    return all(finding.level in (Level.GOOD, Level.WARNING) for finding in findings)
