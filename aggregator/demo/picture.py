"""One hospital's true update beside what the server received of it."""

from pathlib import Path

from aggregator.demo.data import Study
from aggregator.demo.job import Job


def draw(out: Path, evidence: Path, done: Job, study: Study) -> Path:
    """todo"""
    return out / "update.png"
