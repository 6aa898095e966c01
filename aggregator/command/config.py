"""`sangam config`: what a server would be told, where that comes from, and whether it would start."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aggregator.command.findings import finish, show

app = typer.Typer(
    name="config",
    help="A server's configuration: check it before a start, or show it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_File = Annotated[Path | None, typer.Argument(help="A TOML file; by default the one that SANGAM_CONFIG names.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


@app.command()
def check(file: _File = None, *, as_json: _Json = False) -> None:
    """Say what is wrong with a server's configuration: values, certificates, roster, permissions, room on the disk.

    Nothing is started. The environment's SANGAM_... count as for [bold]sangam serve[/bold]. Ends with 0 if it would
    start.

    Example: [bold]sangam config check hub.toml[/bold]
    """
    from aggregator.doctor.configuration import check_settings
    from aggregator.settings import ignored_variables, read_settings

    console, findings = Console(quiet=as_json), []
    for finding in check_settings(read_settings(file), datetime.now(UTC), ignored_variables()):
        show(console, finding)
        findings.append(finding)
    finish(findings, as_json=as_json)


@app.command(name="show")
def show_settings(file: _File = None, *, as_json: _Json = False) -> None:
    """Print every setting with where it comes from. None of them is secret.

    Example: [bold]sangam config show hub.toml[/bold]
    """
    from aggregator.settings import read_settings

    effective = read_settings(file).effective()
    if as_json:
        told = {name: {"value": value, "from": place} for name, (value, place) in effective.items()}
        typer.echo(json.dumps(told, indent=1, default=str))
        return
    table = Table("setting", "value", "from", box=None)
    for name, (value, place) in effective.items():
        table.add_row(name, Text(_words(value)), Text(place))
    Console().print(table)


def _words(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
