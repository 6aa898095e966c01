"""What the sites write down of their rounds, where the harness finds it.

    TASK/ROUND/SITE.npy    the words that this site masked; written before any of its upload leaves
    TASK/ROUND/SITE.ack    the server has acknowledged the upload
    TASK/ROUND/SITE.sum    the SHA-256 of the sum that this site was given
    SITE.errors            errors that its rounds ended with, one a line
    SITE.repeats           what it sent twice, or again, one a line

Nothing is forced to the disk: processes are killed, the machine is not. No real site has such a thing.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aggregator.protocol.encoding import RingVector


@dataclass(frozen=True, slots=True)
class Evidence:
    """The directory of it."""

    directory: Path

    def of(self, task: str, number: int) -> Path:
        """A round's."""
        return self.directory / task / str(number)

    def mask(self, task: str, number: int, site: str, words: RingVector) -> None:
        """A site is about to upload these words, masked."""
        self.of(task, number).mkdir(parents=True, exist_ok=True)
        np.save(self.of(task, number) / f"{site}.npy", words)

    def acknowledge(self, task: str, number: int, site: str) -> None:
        """A site was told that its upload has arrived."""
        (self.of(task, number) / f"{site}.ack").touch()

    def give(self, task: str, number: int, site: str, words: RingVector) -> None:
        """A site was given a sum. Whole or not at all: it may be killed here, and somebody may be looking."""
        half = self.of(task, number) / f"{site}.half"
        half.write_text(digest(words))
        half.rename(half.with_suffix(".sum"))

    def complain(self, site: str, error: str) -> None:
        """A site's round ended with an error."""
        self._add(f"{site}.errors", error)

    def repeat(self, site: str, what: str) -> None:
        """A site said something once more."""
        self._add(f"{site}.repeats", what)

    def masked(self, task: str, number: int, site: str) -> RingVector | None:
        """What a site masked; None where it says nothing of it."""
        try:
            words: RingVector = np.load(self.of(task, number) / f"{site}.npy")
        except FileNotFoundError:
            return None
        return words

    def named(self, task: str, number: int, ending: str) -> frozenset[str]:
        """The sites that left a file of this ending."""
        return frozenset(path.stem for path in self.of(task, number).glob(f"*.{ending}"))

    def given(self, task: str, number: int) -> dict[str, str]:
        """By site, the digest of the sum that it was given."""
        return {path.stem: path.read_text() for path in self.of(task, number).glob("*.sum")}

    def lines(self, ending: str) -> list[str]:
        """All sites' lines of one kind, errors or repeats."""
        return [line for path in self.directory.glob(f"*.{ending}") for line in path.read_text().splitlines()]

    def drop_words(self, task: str, number: int) -> None:
        """Give room back: a round was judged."""
        for path in self.of(task, number).glob("*.npy"):
            path.unlink()

    def _add(self, name: str, line: str) -> None:
        with (self.directory / name).open("a") as file:
            file.write(f"{line}\n")


def digest(words: RingVector) -> str:
    """SHA-256 of words, in hex."""
    return hashlib.sha256(np.ascontiguousarray(words).data).hexdigest()
