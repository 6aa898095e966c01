"""All that an operator's tasks do at one moment, drawn for a terminal or as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from aggregator.command.progress import Board, Standing
from aggregator.wire.operator_messages import RoundSummary, TaskSummary
from aggregator.wire.vocabulary import HOMOMORPHIC_STEPS, MASKED_STEPS, RoundState, TaskState

ENDED_SHOWN: Final = 8
IDLE_SHOWN: Final = 12
BAR_WIDTH: Final = 24
MINUTE_S: Final = 60
HOUR_S: Final = 3_600
DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Overview:
    """What an operator sees at one moment.

    Attributes:
        address: of the aggregator.
        at_s: this machine's clock, unix seconds.
        tasks: all of them, by name.
        rounds: by task, the newest first; those of a task that runs a round, and the last ones of the others.
        boards: what is known of running rounds, by task.
        away: why the aggregator cannot be asked now; what is shown is what it said last.
    """

    address: str
    at_s: float
    tasks: Sequence[TaskSummary] = ()
    rounds: Mapping[str, Sequence[RoundSummary]] = field(default_factory=dict)
    boards: Mapping[str, Board] = field(default_factory=dict)
    away: str = ""

    def running(self) -> Iterator[tuple[TaskSummary, RoundSummary, Standing]]:
        """The rounds that run or gather, with where each is."""
        for task in self.tasks:
            for one in self.rounds.get(task.name, ()):
                if one.round == task.running_round:
                    yield task, one, self._standing(task, one)

    def ended(self) -> list[tuple[str, RoundSummary]]:
        """The rounds that ended last, the newest first, each with its task."""
        found = [
            (name, one)
            for name, rounds in self.rounds.items()
            for one in rounds
            if one.state in {RoundState.CLOSED, RoundState.FAILED}
        ]
        return sorted(found, key=lambda pair: -_ended_s(pair[1]))[:ENDED_SHOWN]

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        running = {task.name: asdict(standing) | {"round": one.round} for task, one, standing in self.running()}
        return {
            "time": datetime.fromtimestamp(self.at_s, UTC).isoformat(timespec="milliseconds"),
            "address": self.address,
            "away": self.away,
            "tasks": [asdict(task) | {"running": running.get(task.name)} for task in self.tasks],
            "ended": [asdict(one) | {"task": name} for name, one in self.ended()],
        }

    def __rich__(self) -> RenderableType:
        running = list(self.running())
        parts: list[RenderableType] = [self._heading(len(running))]
        if running:
            parts += ["", _running(running)]
            parts += ["", self.boards[running[0][0].name]] if len(running) == 1 and self.boards else []
        if ended := self.ended():
            parts += ["", self._ended(ended)]
        if idle := [task for task in self.tasks if task.name not in {one.name for one, _, _ in running}]:
            parts += ["", _idle(idle)]
        return Group(*parts)

    def _standing(self, task: TaskSummary, one: RoundSummary) -> Standing:
        """From the round's events where they are followed, else from its summary, which does not count answers."""
        board = self.boards.get(task.name)
        known = board.standing if board is not None else None
        if known is None:
            return Standing(one.step or "gathering", 0, one.clients, 0, one.seconds)
        if known.step == "gathering":
            return Standing(known.step, one.clients, known.of, known.dropouts, known.seconds)
        return known

    def _heading(self, running: int) -> Text:
        at = datetime.fromtimestamp(self.at_s).astimezone()
        count = f"{len(self.tasks)} task{'s' * (len(self.tasks) != 1)}"
        facts = [count, f"{running} running", f"{at:%H:%M:%S}"]
        line = Text.assemble((self.address, "bold"), "  ", " · ".join(facts))
        if self.away:
            line.append("\nThe aggregator is away, and is asked again. Below is what it said last.", style="red")
            line.append(f"\n{self.away}", style="dim")
        elif not self.tasks:
            line.append("\nThere is no task of yours yet: sangam task create makes one.", style="dim")
        return line

    def _ended(self, ended: Sequence[tuple[str, RoundSummary]]) -> Table:
        table = _table("ended", "round", ">when", ">took", "how")
        for name, one in ended:
            closed = one.state == RoundState.CLOSED
            how = Text("closed", "green") if closed else Text("failed", "red")
            how.append(f" with {one.clients} sites" if closed else f": {one.reason}", style="default")
            ago = f"{span(max(0.0, self.at_s - _ended_s(one)))} ago"
            table.add_row(Text(name), str(one.round), ago, span(one.seconds), how)
        return table


def _running(running: Sequence[tuple[TaskSummary, RoundSummary, Standing]]) -> Table:
    table = _table("running", "round", "step", "", ">answered", ">for", ">dropped out", ">connected")
    for task, one, standing in running:
        bar = ProgressBar(total=max(standing.of, 1), completed=standing.answered, width=BAR_WIDTH)
        answered = f"{standing.answered} of {standing.of}" if standing.of else str(standing.answered)
        gone = Text(str(standing.dropouts), style="yellow" if standing.dropouts else "dim")
        step, name = Text(_step(task, standing)), Text(task.name, style="bold")
        table.add_row(name, str(one.round), step, bar, answered, span(standing.seconds), gone, str(task.connected))
    return table


def _idle(tasks: Sequence[TaskSummary]) -> Table:
    table = _table("waiting", "mode", ">values", ">rounds", ">connected")
    for task in tasks[:IDLE_SHOWN]:
        style = "dim strike" if task.state == TaskState.CANCELLED else ""
        words = (task.mode, f"{task.entries:,}", str(task.rounds), str(task.connected))
        table.add_row(Text(task.name, style=style), *words)
    if len(tasks) > IDLE_SHOWN:
        table.add_row(Text(f"and {len(tasks) - IDLE_SHOWN} more", style="dim"))
    return table


def _table(*headings: str) -> Table:
    """A table without lines; a column of numbers is marked by `>`."""
    columns = (Column(name.lstrip(">"), justify="right" if name.startswith(">") else "left") for name in headings)
    return Table(*columns, box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))


def _step(task: TaskSummary, standing: Standing) -> str:
    """A step by name and by its place among those of the task's mode."""
    from aggregator.protocol.parameters import Mode

    steps = HOMOMORPHIC_STEPS if task.mode == Mode.HOMOMORPHIC else MASKED_STEPS
    words = standing.step.replace("_", " ")
    place = [step.value for step in steps].index(standing.step) + 1 if standing.step in steps else 0
    return f"{words} ({place}/{len(steps)})" if place else words


def span(seconds: float) -> str:
    """A time as short as it may be."""
    if seconds < MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < HOUR_S:
        return f"{int(seconds) // MINUTE_S} min {int(seconds) % MINUTE_S:02} s"
    if seconds < DAY_S:
        return f"{int(seconds) // HOUR_S} h {int(seconds) % HOUR_S // MINUTE_S:02} min"
    return f"{int(seconds) // DAY_S} days"


def _ended_s(one: RoundSummary) -> float:
    return one.started_s + one.seconds
