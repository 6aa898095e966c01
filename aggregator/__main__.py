"""The `sangam` command."""

import sys
from importlib.metadata import version as installed_version

import typer

from aggregator.command.audit import app as audit
from aggregator.command.auditor import app as auditor
from aggregator.command.bench import bench
from aggregator.command.ckks import app as ckks
from aggregator.command.config import app as config
from aggregator.command.demo import demo
from aggregator.command.doctor import doctor
from aggregator.command.gateway import gateway
from aggregator.command.join import join
from aggregator.command.keyholder import app as keyholder
from aggregator.command.pki import app as pki
from aggregator.command.round import app as round_app
from aggregator.command.run import run
from aggregator.command.serve import serve
from aggregator.command.simulate import simulate
from aggregator.command.site import app as site
from aggregator.command.status import status
from aggregator.command.task import app as task
from aggregator.errors import SangamError
from aggregator.wire.messages import PROTOCOL_VERSION

app = typer.Typer(
    name="sangam",
    help="Secure aggregation for federated learning: the server learns the sum, and nothing else. Try: sangam demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    add_completion=False,
)
app.add_typer(task, name="task")
app.add_typer(round_app, name="round")
app.add_typer(site, name="site")
app.add_typer(pki, name="pki")
app.add_typer(keyholder, name="keyholder")
app.add_typer(auditor, name="auditor")
app.add_typer(config, name="config")
app.add_typer(audit, name="audit")
app.add_typer(ckks, name="ckks")
app.command("serve")(serve)
app.command("doctor")(doctor)
app.command("join")(join)
app.command("run")(run)
app.command("gateway")(gateway)
app.command("demo")(demo)
app.command("bench")(bench)
app.command("simulate")(simulate)
app.command("status")(status)


@app.command()
def version() -> None:
    """Print the version, and the protocol's.

    Example: [bold]sangam version[/bold]
    """
    typer.echo(f"sangam {installed_version('sangam')}, protocol {PROTOCOL_VERSION}")


def main() -> None:
    """Run the command; an error that we raise on purpose is one sentence on stderr and exit status 1."""
    try:
        app()
    except SangamError as error:
        typer.echo(f"sangam: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
