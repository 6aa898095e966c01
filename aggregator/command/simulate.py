"""`sangam simulate`: the real protocol among many clients on one machine, for whoever plans a consortium."""

from typing import Annotated

import typer
from rich.console import Console


def simulate(
    clients: Annotated[int, typer.Option(help="Clients, each with a certificate of its own: 2 to 10,000.")] = 1_000,
    entries: Annotated[int, typer.Option(help="Values of one update.")] = 100_000,
    mode: Annotated[str, typer.Option(help="lattice or pairwise.")] = "lattice",
    bits: Annotated[int, typer.Option(help="Bits of one quantised value.")] = 16,
    dropouts: Annotated[int, typer.Option(help="Clients that vanish in every round, spread over its steps.")] = 0,
    *,
    rounds: Annotated[int, typer.Option(help="Rounds, one after the other.")] = 1,
    seed: Annotated[int, typer.Option(help="Decides the updates and who vanishes; no key depends on it.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="End stdout with one JSON object; the table goes to stderr.")
    ] = False,
) -> None:
    """Run real rounds among many clients in this process and two more, without a network.

    The phases of [bold]sangam serve[/bold] run here, the clients' steps in two processes; every message goes through
    the codec. Nothing of the network is in the figures, nor the sites' journals: for those, [bold]sangam bench[/bold].
    Ends with 0 only if every sum was exact.

    Example: [bold]sangam simulate --clients 120 --entries 2000 --mode lattice --dropouts 6[/bold]

    What every number means: docs/simulate.md.
    """
    console = Console(stderr=True)
    with console.status("kernels are compiled (which takes long the first time only), modules imported ..."):
        from aggregator.local import processes
        from aggregator.local.conduct import conduct
        from aggregator.local.screen import Screen
        from aggregator.simulate import crowd, report, run
        from aggregator.simulate.settings import Settings
        from native.warmup import warm

        settings = Settings(mode, clients, entries, bits, dropouts, rounds, seed)
        warm()
        processes.nursery(crowd.__name__)
    job = run.run(settings, Screen(console))
    raise typer.Exit(conduct(job, report, console, as_json=as_json))
