"""Options that several commands share: where the aggregator is, who asks, and in what form the answer is printed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from aggregator.arrays import read_arrays
from aggregator.config import LogFormat

if TYPE_CHECKING:
    from aggregator.protocol.encoding import Update
    from clients.selection import Selection

Address: TypeAlias = Annotated[str, typer.Option(envvar="SANGAM_ADDRESS", help="The aggregator, host:port.")]
OperatorIdentity: TypeAlias = Annotated[
    Path, typer.Option("--identity", envvar="SANGAM_IDENTITY", help="The operator's directory: key.pem, identity.pem.")
]
TaskName: TypeAlias = Annotated[str, typer.Argument(help="The task's name.")]
RoundNumber: TypeAlias = Annotated[int, typer.Argument(min=1, help="The round's number.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead, one object a line.")]
Base: TypeAlias = Annotated[
    Path | None, typer.Option(help="The model that updates start from, .npz; by default none, the empty one.")
]
Out: TypeAlias = Annotated[Path | None, typer.Option(help="Where to write the round's mean, .npz.")]
Include: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="Only the tensors whose name matches, such as 'body.*'; repeatable.")
]
Exclude: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="Not the tensors whose name matches, such as '*.running_*'; repeatable.")
]
AttendedTasks: TypeAlias = Annotated[
    list[str], typer.Option("--task", help="A task to attend, also one that is not there yet; repeatable.")
]
Ledger: TypeAlias = Annotated[
    Path | None, typer.Option(help="What must not be forgotten; by default ledger.sqlite beside the identity.")
]

LogFormatOption: TypeAlias = Annotated[
    LogFormat, typer.Option("--log-format", envvar="SANGAM_LOG_FORMAT", help="Of the lines on stderr.")
]


def read_model(path: Path | None, selection: "Selection") -> "Update | None":
    """The selected part of a model file, which is what a round starts from; None is no model."""
    return None if path is None else selection.of(read_arrays(path))


def chosen(include: list[str] | None, exclude: list[str] | None) -> "Selection":
    """What --include and --exclude say."""
    from clients.selection import Selection

    return Selection(tuple(include or ("*",)), tuple(exclude or ()))
