"""`sangam auditor`: freeze the lists of homomorphic rounds, and add up their ciphertexts a second time."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from aggregator.command.logged import logging_to_stderr, until_stopped
from aggregator.command.options import AttendedTasks, Ledger, LogFormatOption
from aggregator.config import LogFormat

app = typer.Typer(
    name="auditor",
    help="Auditor of homomorphic tasks: without its signature nothing is decrypted. Not on the aggregator's machine.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.callback()
def auditor() -> None:
    """Keep `serve` a word of its own, beside what may come."""


@app.command()
def serve(
    address: Annotated[str, typer.Option(help="The aggregator, host:port.")],
    identity: Annotated[Path, typer.Option(help="The auditor's directory: key.pem and identity.pem.")],
    task: AttendedTasks,
    *,
    ledger: Ledger = None,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Audit tasks: freeze the list of each round before anybody uploads, read the ciphertexts, sign their sum.

    It holds no key but its own. It dials the aggregator, and dials again when the line breaks. Ctrl-C or SIGTERM stops
    it.

    Example: [bold]sangam auditor serve --address hub:7443 --identity auditor --task lungs[/bold]
    """
    from clients.attendance import attend_as_auditor

    with logging_to_stderr(log_format):
        asyncio.run(until_stopped(attend_as_auditor(address, identity, task, ledger=ledger)))
