"""`sangam round`: create a task if it is new, run one round of it, fetch the result."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from aggregator.command.arrays import check_target, read_arrays, write_arrays
from aggregator.errors import ParameterError
from aggregator.wire.messages import Tensor
from aggregator.wire.operator_messages import RoundEvent
from aggregator.wire.vocabulary import EventKind

if TYPE_CHECKING:
    from clients.result import RoundResult


def run_round(
    address: Annotated[str, typer.Option(help="The aggregator, host:port.")],
    identity: Annotated[Path, typer.Option(help="The operator's directory: key.pem and both certificates.")],
    task: Annotated[str, typer.Option(help="The task's name; created if it is new.")],
    *,
    like: Annotated[Path | None, typer.Option(help="An .npz file with the update's tensor names and shapes.")] = None,
    tensor: Annotated[
        list[str] | None, typer.Option(help="Or one tensor, name=30x2 (name= for a scalar); repeatable.")
    ] = None,
    clip: Annotated[float, typer.Option(help="Entries are clipped to [-clip, clip].")] = 8.0,
    weight_max: Annotated[int, typer.Option(help="Largest number of samples of one site.")] = 1_000,
    clients_max: Annotated[int, typer.Option(help="Most clients in one sum.")] = 100,
    minimum_cohort: Annotated[int, typer.Option(help="Fewest clients in one sum.")] = 3,
    value_bits: Annotated[int, typer.Option(help="Bits of one quantised entry.")] = 16,
    rotate: Annotated[bool, typer.Option(help="Apply the random rotation before clipping.")] = False,
    mode: Annotated[
        str, typer.Option(help="How updates travel: pairwise, lattice, or auto, by their length.")
    ] = "auto",
    base: Annotated[Path | None, typer.Option(help="The model that updates start from, .npz.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the round's mean, .npz.")] = None,
    operator_only: Annotated[bool, typer.Option(help="Participants may not fetch the result.")] = False,
) -> None:
    """Run one round of a task: waits for the sites, shows what happens, fetches the result.

    Example: [bold]sangam round --address hub:7443 --identity operator --task lungs --like model.npz
    --weight-max 500 --base model.npz --out next.npz[/bold]
    """
    from aggregator.protocol.parameters import Mode, Parameters
    from clients.operator import operate

    check_target(out)
    if mode not in set(Mode):
        raise ParameterError(f"--mode {mode}: there are {', '.join(Mode)}")
    parameters = Parameters(
        tensors=_tensors(like, tensor or []),
        clip=clip,
        clients_max=clients_max,
        minimum_cohort=minimum_cohort,
        weight_max=weight_max,
        value_bits=value_bits,
        rotate=rotate,
        mode=Mode(mode),
    )
    start = read_arrays(base) if base is not None else None

    console = Console(stderr=True)

    def show(event: RoundEvent) -> None:
        console.print(_sentence(event), highlight=False)

    async def run() -> "RoundResult":
        async with operate(address, identity) as operator:
            await operator.create_task(task, parameters, result_to_operator_only=operator_only)
            console.print(f"task [bold]{task}[/bold], {parameters.mode}: a round is open; waiting for the sites")
            return await operator.run_round(task, base=start, on_event=show)

    _show(asyncio.run(run()), out)


def _sentence(event: RoundEvent) -> str:
    step = event.step.replace("_", " ")
    match event.kind:
        case EventKind.STEP:
            text = f"[bold]{step}[/bold]: {event.clients} sites"
        case EventKind.CLOSED:
            text = f"[green]closed[/green] with {event.clients} sites"
        case _:
            text = escape(f"  {event.client} {event.kind} {event.detail}".rstrip())
    return f"[dim]{event.seconds:8.2f} s[/dim]  {text}"


def _tensors(like: Path | None, named: list[str]) -> tuple[Tensor, ...]:
    if (like is None) == (not named):
        raise ParameterError("say what the update looks like: either --like FILE.npz or --tensor name=shape")
    if like is not None:
        return tuple(Tensor(name, array.shape) for name, array in read_arrays(like).items())
    return tuple(_tensor(text) for text in named)


def _tensor(text: str) -> Tensor:
    name, equals, shape = text.partition("=")
    try:
        return Tensor(name, tuple(int(size) for size in shape.split("x") if equals and shape))
    except ValueError:
        raise ParameterError(f"--tensor {text}: expected name=30x2, or name= for a scalar") from None


def _show(result: "RoundResult", out: Path | None) -> None:
    typer.echo(
        f"Round {result.round}: mean over {len(result.participants)} sites ({', '.join(result.participants)}), "
        f"total weight {result.total_weight}, error below {result.error_bound:.3g}."
    )
    if out is not None:
        write_arrays(out, result.mean)
        typer.echo(f"The mean is in {out}.")
