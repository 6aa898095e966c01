"""`sangam audit`: whether the log of a server's decisions is whole."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="audit",
    help="The log of what a server decided: who took part, survivors, aborts, results' digests.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.callback()
def audit() -> None:
    """The log of what a server decided."""


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="The log, or the state directory that holds it.")],
    *,
    head: Annotated[str, typer.Option(help="A hash that was noted earlier; its line must be there unchanged.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Check that no line of the log was changed or taken out; the server may be running.

    Prints the last line's hash. Who notes it elsewhere can show later, by [bold]--head[/bold], that all up to then is
    as it was.

    Example: [bold]sangam audit verify hub/state[/bold]
    """
    from aggregator.storage.audit import AUDIT_FILE, verify

    path = file / AUDIT_FILE if file.is_dir() else file
    last = verify(_lines(path), head)
    if as_json:
        typer.echo(json.dumps({"lines": last.seq + 1, "head": last.hash}))
    else:
        typer.echo(f"{last.seq + 1:,} lines, none changed or taken out; the last one's hash is {last.hash}")


def _lines(path: Path) -> Iterator[str]:
    """Whole lines; a last one without its end is being written."""
    from aggregator.errors import StorageError
    from aggregator.storage.audit import LINE_BYTES_MAX

    try:
        with path.open("rb") as file:
            while line := file.readline(LINE_BYTES_MAX):
                if line.endswith(b"\n"):
                    yield line[:-1].decode()
                elif len(line) == LINE_BYTES_MAX:
                    raise StorageError(f"{path} has a line that is too long to be one of its own")
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StorageError(f"{path} is no audit log: it is not text") from None
