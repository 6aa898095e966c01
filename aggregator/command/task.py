"""`sangam task`: what is summed, by whom, and how."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from aggregator.arrays import read_arrays
from aggregator.command import listing
from aggregator.command.asking import ask, collected
from aggregator.command.options import Address, AsJson, Exclude, Include, OperatorIdentity, TaskName, chosen
from aggregator.errors import ParameterError
from aggregator.wire.messages import Tensor
from aggregator.wire.operator_messages import Opening, Retention

if TYPE_CHECKING:
    from aggregator.protocol.parameters import Parameters
    from aggregator.protocol.parties import Parties
    from clients.operator import Operator
    from clients.selection import Selection

app = typer.Typer(
    name="task",
    help="Tasks: create one, look at them, end one. For operators.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

HOUR_S: Final = 3_600.0


@app.command()
def create(
    name: TaskName,
    address: Address,
    identity: OperatorIdentity,
    *,
    like: Annotated[Path | None, typer.Option(help="An .npz file with the update's tensor names and shapes.")] = None,
    include: Include = None,
    exclude: Exclude = None,
    tensor: Annotated[
        list[str] | None, typer.Option(help="Or one tensor, name=30x2 (name= for a scalar); repeatable.")
    ] = None,
    clip: Annotated[float, typer.Option(help="Entries are clipped to [-clip, clip].")] = 8.0,
    tensor_clip: Annotated[
        list[str] | None, typer.Option(help="Another clip, and so another scale, for one tensor: name=0.5; repeatable.")
    ] = None,
    weight_max: Annotated[int, typer.Option(help="Largest number of samples of one site.")] = 1_000,
    clients_max: Annotated[int, typer.Option(help="Most sites in one sum.")] = 100,
    minimum_cohort: Annotated[int, typer.Option(help="Fewest sites in one sum.")] = 3,
    value_bits: Annotated[int, typer.Option(help="Bits of one quantised entry.")] = 16,
    rotate: Annotated[bool, typer.Option(help="Apply the random rotation before clipping.")] = False,
    mode: Annotated[
        str, typer.Option(help="How updates travel: pairwise, lattice, homomorphic, or auto, by their length.")
    ] = "auto",
    key_holder: Annotated[str, typer.Option(help="Homomorphic mode: the key holder, by its certificate's name.")] = "",
    auditor: Annotated[str, typer.Option(help="Homomorphic mode: the auditor, by its certificate's name.")] = "",
    audit: Annotated[
        str, typer.Option(help="frozen; one-shot and trust-server protect less, and sites have to accept them.")
    ] = "frozen",
    enough: Annotated[int, typer.Option(min=0, help="A round opens when so many sites are connected; 0: at once.")] = 0,
    gather_hours: Annotated[float, typer.Option(help="Or after so many hours, with those who are.")] = 1.0,
    sample: Annotated[int, typer.Option(min=0, help="So many of the connected are invited; 0: all sites.")] = 0,
    keep: Annotated[int, typer.Option(min=1, max=100, help="How many rounds' sums the aggregator keeps.")] = 3,
    keep_hours: Annotated[float, typer.Option(min=0, help="And none for longer than this; 0: no limit.")] = 0.0,
    starter: Annotated[
        list[str] | None, typer.Option(help="Another operator who may use this task; repeatable.")
    ] = None,
    operator_only: Annotated[bool, typer.Option(help="Participants may not fetch results.")] = False,
) -> None:
    """Create a task; the very same one again is no error, so that a script can start with this.

    Example: [bold]sangam task create lungs --like update.npz --weight-max 600[/bold]
    """
    from aggregator.protocol.parameters import Mode, Parameters

    selection = chosen(include, exclude)
    if mode not in set(Mode):
        raise ParameterError(f"--mode {mode}: there are {', '.join(Mode)}")
    parameters = Parameters(
        tensors=_tensors(like, tensor or [], _clips(tensor_clip or []), selection),
        clip=clip,
        clients_max=clients_max,
        minimum_cohort=minimum_cohort,
        weight_max=weight_max,
        value_bits=value_bits,
        rotate=rotate,
        mode=Mode(mode),
        parties=_parties(key_holder, auditor, audit),
    )

    opening, retention = Opening(enough, gather_hours * HOUR_S, sample), Retention(keep, keep_hours * HOUR_S)

    async def question(operator: "Operator") -> bool:
        return await operator.create_task(
            name,
            parameters,
            opening=opening,
            retention=retention,
            starters=starter or (),
            result_to_operator_only=operator_only,
        )

    existed = ask(address, identity, question)
    typer.echo(f"Task {name} {'was there already' if existed else 'is created'}: {_described(parameters)}.")


def _parties(key_holder: str, auditor: str, audit: str) -> "Parties | None":
    from aggregator.protocol.parties import Audit, Parties

    if audit not in set(Audit):
        raise ParameterError(f"--audit {audit}: there are {', '.join(Audit)}")
    if not key_holder and (auditor or audit != Audit.FROZEN):
        raise ParameterError("--auditor and --audit belong to homomorphic mode: name its --key-holder, too")
    return Parties(key_holder, auditor, Audit(audit)) if key_holder else None


@app.command(name="list")
def list_tasks(address: Address, identity: OperatorIdentity, *, as_json: AsJson = False) -> None:
    """The tasks that this operator may use.

    Example: [bold]sangam task list[/bold] (with SANGAM_ADDRESS and SANGAM_IDENTITY in the environment)
    """
    tasks = ask(address, identity, lambda operator: collected(operator.tasks()))
    listing.show(tasks, listing.TASK_COLUMNS, as_json=as_json)


@app.command(name="show")
def show_task(name: TaskName, address: Address, identity: OperatorIdentity, *, as_json: AsJson = False) -> None:
    """One task as it was created and as it stands; JSON has all of it.

    Example: [bold]sangam task show lungs --json[/bold]
    """
    found = ask(address, identity, lambda operator: operator.describe_task(name))
    if as_json:
        typer.echo(listing.as_line(found))
    else:
        listing.show_one(found.summary, listing.TASK_COLUMNS, as_json=False)


@app.command()
def cancel(name: TaskName, address: Address, identity: OperatorIdentity) -> None:
    """End a task: its running round is aborted, its sites are told; its results stay until it is deleted.

    Example: [bold]sangam task cancel lungs[/bold]
    """
    ask(address, identity, lambda operator: operator.cancel_task(name))
    typer.echo(f"Task {name} is cancelled.")


@app.command()
def delete(name: TaskName, address: Address, identity: OperatorIdentity) -> None:
    """Forget a cancelled task with its rounds and results. Its name is not free again: sites remember it.

    Example: [bold]sangam task delete lungs[/bold]
    """
    ask(address, identity, lambda operator: operator.delete_task(name))
    typer.echo(f"Task {name} is deleted.")


def _described(parameters: "Parameters") -> str:
    return f"{parameters.tensor_entries:,} values in {len(parameters.tensors)} tensors, {parameters.mode} mode"


def _tensors(
    like: Path | None, named: list[str], clips: Mapping[str, float], selection: "Selection"
) -> tuple[Tensor, ...]:
    if (like is None) == (not named):
        raise ParameterError("say what the update looks like: either --like FILE.npz or --tensor name=shape")
    shapes = {name: array.shape for name, array in read_arrays(like).items()} if like else dict(map(_shape, named))
    selected = selection.names(shapes)
    if strangers := clips.keys() - set(selected):
        raise ParameterError(f"--tensor-clip {min(strangers)}: the update has no such tensor")
    return tuple(Tensor(name, shapes[name], clips.get(name, 0.0)) for name in selected)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, shape = text.partition("=")
    try:
        return name, tuple(int(size) for size in shape.split("x") if equals and shape)
    except ValueError:
        raise ParameterError(f"--tensor {text}: expected name=30x2, or name= for a scalar") from None


def _clips(texts: list[str]) -> dict[str, float]:
    clips = {}
    for text in texts:
        name, _, clip = text.partition("=")
        try:
            clips[name] = float(clip)
        except ValueError:
            raise ParameterError(f"--tensor-clip {text}: expected name=0.5") from None
    return clips
