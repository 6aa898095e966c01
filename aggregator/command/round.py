"""`sangam round`: run rounds, watch them, end them, fetch what they gave."""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from aggregator.arrays import check_target, write_arrays
from aggregator.command import listing
from aggregator.command.asking import ask, collected
from aggregator.command.options import (
    Address,
    AsJson,
    Base,
    Exclude,
    Include,
    OperatorIdentity,
    Out,
    RoundNumber,
    TaskName,
    chosen,
    read_model,
)
from aggregator.command.progress import following
from aggregator.errors import NotFound, RoundAborted
from aggregator.wire.vocabulary import EventKind

if TYPE_CHECKING:
    from pathlib import Path

    from clients.operator import Operator
    from clients.result import RoundResult

app = typer.Typer(
    name="round",
    help="Rounds of a task: run, watch, abort, fetch. For operators.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_Number = Annotated[int, typer.Argument(min=0, help="The round's number; by default the last one.")]


@app.command(name="run")
def run_round(
    task: TaskName,
    address: Address,
    identity: OperatorIdentity,
    *,
    base: Base = None,
    include: Include = None,
    exclude: Exclude = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Start a round, show what happens, wait for its end, fetch its mean. A broken line never starts a second round.

    Example: [bold]sangam round run lungs --base model.npz --out next.npz[/bold]
    """
    check_target(out)
    start = read_model(base, chosen(include, exclude))
    console = Console(stderr=True)

    with following(console) as take:
        result = ask(address, identity, lambda operator: operator.run_round(task, base=start, on_event=take))
    _tell(result, out, as_json=as_json)


@app.command()
def start(
    task: TaskName,
    address: Address,
    identity: OperatorIdentity,
    *,
    base: Base = None,
    include: Include = None,
    exclude: Exclude = None,
    key: Annotated[str, typer.Option(help="The same key again gives the same round: for schedulers that retry.")] = "",
) -> None:
    """Start a round and print its number.

    Example: [bold]sangam round start lungs --base next.npz --key nightly-7[/bold]
    """
    model = read_model(base, chosen(include, exclude))

    typer.echo(ask(address, identity, lambda operator: operator.start_round(task, base=model, key=key)))


@app.command()
def watch(
    task: TaskName, address: Address, identity: OperatorIdentity, number: _Number = 0, *, as_json: AsJson = False
) -> None:
    """Show a round as it happens, from its beginning until it ends; a failed round ends with exit status 1.

    Example: [bold]sangam round watch lungs[/bold]
    """
    console = Console(stderr=True)

    async def question(operator: "Operator") -> None:
        wanted = number or await _newest(operator, task)
        async for event in operator.watch(task, wanted):
            take(event)
            if event.kind == EventKind.FAILED:
                raise RoundAborted(f"round {wanted}: {event.detail}")

    with following(console, as_json=as_json) as take:
        ask(address, identity, question)


@app.command(name="list")
def list_rounds(task: TaskName, address: Address, identity: OperatorIdentity, *, as_json: AsJson = False) -> None:
    """The rounds of a task, newest first.

    Example: [bold]sangam round list lungs[/bold]
    """
    rounds = ask(address, identity, lambda operator: collected(operator.rounds(task)))
    listing.show(rounds, listing.ROUND_COLUMNS, as_json=as_json)


@app.command(name="show")
def show_round(
    task: TaskName, number: RoundNumber, address: Address, identity: OperatorIdentity, *, as_json: AsJson = False
) -> None:
    """One round as it stands.

    Example: [bold]sangam round show lungs 7[/bold]
    """
    found = ask(address, identity, lambda operator: operator.describe_round(task, number))
    listing.show_one(found, listing.ROUND_COLUMNS, as_json=as_json)


@app.command()
def abort(
    task: TaskName,
    number: RoundNumber,
    address: Address,
    identity: OperatorIdentity,
    *,
    reason: Annotated[str, typer.Option(help="One sentence; the participants read it.")] = "",
) -> None:
    """End a running round without a sum; nothing is revealed.

    Example: [bold]sangam round abort lungs 7 --reason "wrong base model"[/bold]
    """
    ended = ask(address, identity, lambda operator: operator.abort_round(task, number, reason))
    typer.echo(f"Round {number} of {task} {ended.state}: {ended.reason}")


@app.command()
def fetch(
    task: TaskName,
    address: Address,
    identity: OperatorIdentity,
    number: _Number = 0,
    *,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the mean of a closed round, for as long as the task keeps it.

    Example: [bold]sangam round fetch lungs --out mean.npz[/bold]
    """
    check_target(out)

    result = ask(address, identity, lambda operator: operator.fetch_result(task, number))
    _tell(result, out, as_json=as_json)


@app.command()
def forget(task: TaskName, number: RoundNumber, address: Address, identity: OperatorIdentity) -> None:
    """Delete the sum of a closed round before its time; what happened in the round stays listed.

    Example: [bold]sangam round forget lungs 7[/bold]
    """
    ask(address, identity, lambda operator: operator.delete_result(task, number))
    typer.echo(f"The sum of round {number} of {task} is deleted.")


async def _newest(operator: "Operator", task: str) -> int:
    async for summary in operator.rounds(task, page_size=1):
        return summary.round
    raise NotFound(f"task {task} has had no round yet")


def _tell(result: "RoundResult", out: "Path | None", *, as_json: bool) -> None:
    if out is not None:
        write_arrays(out, result.mean)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "task": result.task,
                    "round": result.round,
                    "participants": result.participants,
                    "total_weight": result.total_weight,
                    "error_bounds": dict(result.error_bounds),
                    "out": None if out is None else str(out),
                }
            )
        )
        return
    typer.echo(
        f"Round {result.round}: mean over {len(result.participants)} sites ({', '.join(result.participants)}), "
        f"total weight {result.total_weight}, error below {result.error_bound:.3g}."
    )
    if out is not None:
        typer.echo(f"The mean is in {out}.")
