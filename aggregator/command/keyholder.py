"""`sangam keyholder`: make a task key for custodians to share, and hold the keys of homomorphic rounds."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from aggregator.command.logged import logging_to_stderr, until_stopped
from aggregator.command.options import AttendedTasks, Ledger, LogFormatOption
from aggregator.config import LogFormat

_LOG = logging.getLogger(__name__)

app = typer.Typer(
    name="keyholder",
    help="Key holder of homomorphic tasks: it decrypts one audited sum a round. Not on the aggregator's machine.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command()
def init(
    out: Annotated[Path, typer.Option(help="A directory for the custodians' files.")],
    custodians: Annotated[int, typer.Option(min=1, max=255, help="How many custodians there are.")] = 3,
    threshold: Annotated[int, typer.Option(min=1, max=255, help="So many of them open the task key together.")] = 2,
) -> None:
    """Make a task key and share it among custodians, a file each. The key itself is written nowhere.

    Give each custodian its file, over another way each, and keep no copy: fewer than the threshold say nothing.

    Example: [bold]sangam keyholder init --custodians 3 --threshold 2 --out custody[/bold]
    """
    from aggregator.crypto import custody

    written = custody.write(out, custody.split(threshold, custodians, os.urandom))
    for path in written:
        typer.echo(f"{path}")
    typer.echo(f"Any {threshold} of these {custodians} files open the task key: one goes to each custodian.")


@app.command()
def serve(
    address: Annotated[str, typer.Option(help="The aggregator, host:port.")],
    identity: Annotated[Path, typer.Option(help="The key holder's directory: key.pem and identity.pem.")],
    task: AttendedTasks,
    custodian: Annotated[list[Path], typer.Option(help="A custodian's file; as many as the threshold.")],
    *,
    ledger: Ledger = None,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Hold the keys of tasks: make a pair for each round, decrypt the sum that its auditor signed, destroy the secret.

    It dials the aggregator, and dials again when the line breaks. Ctrl-C or SIGTERM stops it.

    Example: [bold]sangam keyholder serve --address hub:7443 --identity keyholder --task lungs
    --custodian custody/custodian-1.json --custodian custody/custodian-3.json[/bold]
    """
    from aggregator.crypto import custody
    from clients.attendance import attend_as_key_holder

    safe = custody.load(custodian)
    with logging_to_stderr(log_format):
        _LOG.info("the task key is open, by %d of %d custodians", safe.threshold, safe.custodians)
        asyncio.run(until_stopped(attend_as_key_holder(address, identity, task, safe, ledger=ledger)))
