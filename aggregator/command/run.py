"""`sangam run`: conduct a training of many rounds, from a file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import nan
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from aggregator.command import listing
from aggregator.command.asking import ask
from aggregator.command.options import Address, AsJson, OperatorIdentity
from aggregator.command.progress import Board, sentence
from aggregator.wire.vocabulary import EventKind

if TYPE_CHECKING:
    from aggregator.wire.operator_messages import RoundEvent
    from clients.training.course import Shared
    from clients.training.global_model import GlobalModel
    from clients.training.history import Line
    from clients.training.training import Training

CURVES_FILE = "curves.png"
REMARKABLE = frozenset({EventKind.GATHERING, EventKind.DROPPED, EventKind.WITHDREW, EventKind.RESUMED})


def run(
    experiment: Annotated[Path, typer.Argument(help="The experiment's file, TOML.")],
    address: Address,
    identity: OperatorIdentity,
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="Where model.npz, history.jsonl and curves.png are kept; for lungs.toml lungs.run."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Conduct a training: round after round, until as many have closed as the file says.

    Killed or failed, the same command goes on where it stopped. Every site runs its own script, with the same file,
    which docs/training.md describes. At the end the task is cancelled, unless the file says keep_open = true.

    Example: [bold]sangam run lungs.toml --address hub:7443 --identity operator[/bold]
    """
    from clients.training.experiment import Experiment
    from clients.training.training import Training

    stated = Experiment.load(experiment)
    training = Training(stated, out or experiment.with_suffix(".run"))
    console = Console(stderr=True)

    with _shown(console, stated.rounds, as_json=as_json) as watch:
        model = ask(address, identity, lambda operator: training.conduct(operator, watch))
    if not as_json:
        _summarise(console, training, model)


class _Shown:
    """Told of a training: a line of text or JSON for each round, and what happens in it where somebody looks on."""

    def __init__(self, console: Console, rounds: int, *, as_json: bool) -> None:
        self._console, self._as_json, self._rounds = console, as_json, rounds
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        self._progress = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
        self._bar = self._progress.add_task("rounds", total=rounds)
        self._board: Board | None = None

    def begins(self, number: int, shared: "Shared", failures: int) -> None:
        """A new board for a new round."""
        self._board = Board(monotonic)
        again = f" [yellow](failed {failures} times)[/yellow]" if failures else ""
        self._progress.update(self._bar, completed=shared.closed, description=f"rounds{again}")

    def happened(self, event: "RoundEvent") -> None:
        """On the board; where there is none, a line for what is remarkable."""
        if self._board is not None:
            self._board.take(event)
        if event.kind in REMARKABLE and not (self._console.is_terminal or self._as_json):
            self._console.print(sentence(event), highlight=False, soft_wrap=True)

    def ended(self, line: "Line", shared: "Shared") -> None:
        """A line that stays."""
        self._progress.update(self._bar, completed=shared.closed)
        if self._as_json:
            typer.echo(listing.as_line(line))
        else:
            place = f"{shared.closed:>4}/{self._rounds}  "
            self._console.print(f"{place}{_sentence(line)}", highlight=False, soft_wrap=True)

    def __rich__(self) -> Group:
        return Group(self._progress, *([self._board] if self._board else []))


@contextmanager
def _shown(console: Console, rounds: int, *, as_json: bool) -> Iterator[_Shown]:
    shown = _Shown(console, rounds, as_json=as_json)
    if as_json or not console.is_terminal:
        yield shown
    else:
        with Live(get_renderable=shown.__rich__, console=console, refresh_per_second=4):
            yield shown


def _sentence(line: "Line") -> str:
    if line.failed:
        return f"[red]failed[/red]: {escape(line.failed)}"
    means = "".join(f", {escape(name)} {mean:.4g}" for name, mean in line.metrics.items())
    took = f", {line.seconds:.1f} s" if line.seconds else ", closed meanwhile"
    return f"{line.sites} sites, {line.records:,} records{means}{took}"


def _summarise(console: Console, training: "Training", model: "GlobalModel") -> None:
    lines = training.history().lines
    closed = [line for line in lines if not line.failed]
    table = Table("", "first round", "last round", box=None)
    if not closed:
        console.print(f"{escape(str(training.model_file))} is whole, without a history beside it.", soft_wrap=True)
        return
    for name in closed[-1].metrics:
        table.add_row(name, *(f"{line.metrics.get(name, nan):.4g}" for line in (closed[0], closed[-1])))
    table.add_row("sites", *(str(line.sites) for line in (closed[0], closed[-1])))
    console.print(
        f"\n[bold]{escape(training.experiment.task)}[/bold]: {len(closed)} rounds closed, {len(lines) - len(closed)} "
        f"failed, {sum(line.seconds for line in closed):.1f} s in rounds"
    )
    console.print(table)
    if model.converged:
        console.print("The last round changed nothing: the training has converged.")
    console.print(
        f"The model is in {training.model_file}, {_drawn(training, closed)}.", soft_wrap=True, highlight=False
    )


def _drawn(training: "Training", closed: Sequence["Line"]) -> str:
    try:
        from aggregator.command.curves import draw
    except ModuleNotFoundError as error:
        return f"curves are drawn where {error.name} is installed: pip install 'sangam\\[demo]'"
    path = training.directory / CURVES_FILE
    draw(path, training.experiment.task, closed)
    return f"its curves are in {escape(str(path))}"
