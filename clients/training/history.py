"""What has become of each round of a training: one line of JSON each, appended, in a file beside the model."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from aggregator.errors import ParameterError, StorageError
from aggregator.files import append_lines, read_file


@dataclass(frozen=True, slots=True)
class Line:
    """One round.

    Attributes:
        round: the server's number.
        sites, records: who is in the sum, and their records together; 0 where it failed.
        seconds: from its opening to its end; 0 for one that closed while the operator was away.
        metrics: means over all records.
        failed: why, if it did.
    """

    round: int
    sites: int = 0
    records: int = 0
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    failed: str = ""


class History:
    """The rounds of one training in order, each once, however often it is told; errors as `append_lines`."""

    def __init__(self, path: Path) -> None:
        """Read what is there; ParameterError when it is something else."""
        self._path = path
        self.lines: list[Line] = []
        for number, text in enumerate(
            read_file(path).decode(errors="replace").split("\n")[:-1] if path.exists() else []
        ):
            try:
                self.lines.append(Line(**json.loads(text)))
            except (ValueError, TypeError):
                raise ParameterError(f"{path}, line {number + 1}: not a line of a training's history") from None

    def add(self, line: Line) -> None:
        """Add a round, unless it is there."""
        if any(known.round == line.round for known in self.lines):
            return
        try:
            self._path.touch()
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror}") from None
        append_lines(self._path, json.dumps(asdict(line)).encode() + b"\n")
        self.lines.append(line)

    @property
    def failures(self) -> int:
        """How many of the last rounds have failed in a row."""
        closed = [place for place, line in enumerate(self.lines) if not line.failed]
        return len(self.lines) - (closed[-1] + 1 if closed else 0)
