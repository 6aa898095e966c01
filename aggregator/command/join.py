"""`sangam join`: contribute one update to the next round."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from aggregator.arrays import check_target, read_arrays, write_arrays
from aggregator.command.options import Exclude, Include, chosen, read_model
from aggregator.command.traced import tracing_as_told
from aggregator.errors import ParameterError
from aggregator.wire.vocabulary import Step

if TYPE_CHECKING:
    from aggregator.protocol.encoding import RingVector
    from clients.result import RoundResult


STEPS_SHOWN = 10


class StepLine:
    """Shows the step that the client is in."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def step(self, name: Step) -> None:
        """Print the step's name."""
        self._console.print(f"[dim]{name.replace('_', ' ')}[/dim]")

    def vectors(self, encoded: "RingVector", payload: memoryview) -> None:
        """Nothing of the vectors is shown."""

    def sent(self, chunks: int, of: int) -> None:
        """Print how much of the upload has left, ten times at most."""
        if of > 1 and chunks * STEPS_SHOWN // of > (chunks - 1) * STEPS_SHOWN // of:
            self._console.print(f"[dim]  {chunks:,} of {of:,} chunks have left[/dim]")


def join(
    address: Annotated[str, typer.Option(help="The aggregator, host:port.")],
    identity: Annotated[Path, typer.Option(help="This site's directory: key.pem and identity.pem.")],
    update: Annotated[Path, typer.Option(help="The update, an .npz file of arrays by tensor name.")],
    weight: Annotated[int, typer.Option(min=1, help="Number of samples behind the update; travels masked.")],
    *,
    task: Annotated[str, typer.Option(help="The task; by default the server's only one.")] = "",
    base: Annotated[Path | None, typer.Option(help="The model that the update starts from, .npz.")] = None,
    include: Include = None,
    exclude: Exclude = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the round's mean, .npz.")] = None,
    minimum_cohort: Annotated[
        int | None, typer.Option(min=2, help="Fewest clients in a sum; default max(3, more than half the roster).")
    ] = None,
    accept_audit: Annotated[
        list[str] | None, typer.Option(help="A weaker audit to accept: one-shot or trust-server; repeatable.")
    ] = None,
    again: Annotated[
        str, typer.Option(help="Why to contribute once more on the same model; kept in the journal.")
    ] = "",
) -> None:
    """Contribute one update to the next round: waits for it to open, and for its end.

    Example: [bold]sangam join --address hub:7443 --identity site --update u.npz --weight 569 --base model.npz
    --out mean.npz[/bold]
    """
    from aggregator.protocol.participant import Safeguards
    from aggregator.protocol.parties import Audit
    from clients.connection import connect

    check_target(out)
    selection = chosen(include, exclude)
    arrays = selection.of(read_arrays(update))
    start = read_model(base, selection)
    console = Console(stderr=True)

    unknown = set(accept_audit or ()) - set(Audit)
    if unknown:
        raise ParameterError(f"--accept-audit {min(unknown)}: there are {', '.join(Audit)}")
    audits = frozenset({Audit.FROZEN, *map(Audit, accept_audit or ())})
    safeguards = Safeguards(minimum_cohort=minimum_cohort, audits=audits)

    async def contribute() -> "RoundResult | None":
        async with connect(address, identity, task=task, safeguards=safeguards) as session:
            console.print(f"joined task [bold]{session.task}[/bold]; waiting for a round to open")
            line = StepLine(console)
            return await session.contribute(arrays, weight=weight, base=start, again=again, observer=line)

    with tracing_as_told("sangam-site"):
        result = asyncio.run(contribute())
    _show(result, out)


def _show(result: "RoundResult | None", out: Path | None) -> None:
    if result is None:
        typer.echo("The round is complete; this task keeps its results for its operator.")
        if out is not None:
            raise ParameterError(f"there is no result to write to {out}")
        return
    typer.echo(
        f"Round {result.round} of {result.task}: mean over {len(result.participants)} sites, total weight "
        f"{result.total_weight}, error below {result.error_bound:.3g}, {result.clipped_entries} own entries clipped."
    )
    if out is not None:
        write_arrays(out, result.mean)
        typer.echo(f"The mean is in {out}.")
