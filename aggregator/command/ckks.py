"""`sangam ckks`: sums of CKKS vectors that a platform made with TenSEAL."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from aggregator.arrays import check_target
from aggregator.command.asking import ask
from aggregator.command.options import Address, OperatorIdentity
from aggregator.files import read_file, replace_file

app = typer.Typer(
    name="ckks",
    help="CKKS vectors of TenSEAL: sum them, where the aggregator offers that. For operators.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command(name="sum")
def sum_files(
    vectors: Annotated[list[Path], typer.Argument(help="Files of CKKSVector.serialize(), one for each client.")],
    address: Address,
    identity: OperatorIdentity,
    out: Annotated[Path, typer.Option(help="Where to write the sum, for tenseal.ckks_vector_from.")],
) -> None:
    """Sum CKKS vectors on the aggregator, which holds no key; they are sent one after the other.

    Keep the decrypted sum to those who hold the secret key: seen beside its vectors it gives the key away.

    Example: [bold]sangam ckks sum a.ckks b.ckks --out sum.ckks[/bold] (with SANGAM_ADDRESS and SANGAM_IDENTITY set)
    """
    check_target(out)

    def read(progress: Progress) -> Iterator[bytes]:
        bar = progress.add_task("", total=len(vectors))
        for path in vectors:
            progress.update(bar, description=path.name)
            yield read_file(path)
            progress.advance(bar)
        progress.update(bar, description="fetching the sum")

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        total = ask(address, identity, lambda operator: operator.sum_ckks(read(progress)))
    replace_file(out, total)
    typer.echo(f"The sum of {len(vectors)} vectors is in {out}.")
