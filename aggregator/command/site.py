"""`sangam site`: who is in the roster, and who is connected."""

from typing import Annotated

import typer

from aggregator.command import listing
from aggregator.command.asking import ask, collected
from aggregator.command.options import Address, AsJson, OperatorIdentity

app = typer.Typer(
    name="site",
    help="Sites: who is in the roster, and who is connected. For operators.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command(name="list")
def list_sites(
    address: Address,
    identity: OperatorIdentity,
    *,
    task: Annotated[str, typer.Option(help="Count only who is connected to this task.")] = "",
    as_json: AsJson = False,
) -> None:
    """The participants of the roster, with the end of each certificate, and to how many tasks each is connected.

    Example: [bold]sangam site list --task lungs[/bold]
    """
    sites = ask(address, identity, lambda operator: collected(operator.sites(task)))
    listing.show(sites, listing.SITE_COLUMNS, as_json=as_json)
