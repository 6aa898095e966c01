"""Options that several commands share: where the aggregator is, who asks, and in what form the answer is printed."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

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
AttendedTasks: TypeAlias = Annotated[
    list[str], typer.Option("--task", help="A task to attend, also one that is not there yet; repeatable.")
]
Ledger: TypeAlias = Annotated[
    Path | None, typer.Option(help="What must not be forgotten; by default ledger.sqlite beside the identity.")
]
