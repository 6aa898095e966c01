"""`sangam bench`: what secure rounds cost beside a plain sum, for engineers to measure on their own machine."""

from typing import Annotated

import typer
from rich.console import Console


def bench(
    mode: Annotated[
        str, typer.Option(help="lattice, pairwise or homomorphic; plain runs the plain sum alone.")
    ] = "lattice",
    clients: Annotated[int, typer.Option(help="Clients, each with a certificate and a session: 2 to 10,000.")] = 32,
    entries: Annotated[int, typer.Option(help="Values of one update.")] = 1_000_000,
    bits: Annotated[int, typer.Option(help="Bits of one quantised value.")] = 16,
    dropouts: Annotated[int, typer.Option(help="Clients that vanish half-way through every upload.")] = 3,
    *,
    repeats: Annotated[int, typer.Option(help="Rounds of each kind; figures are medians.")] = 3,
    client_processes: Annotated[int, typer.Option(help="Processes that share the clients.")] = 2,
    durable: Annotated[
        bool, typer.Option("--durable", help="Run each secure round on a server that writes everything down, too.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="End stdout with one JSON object; the table goes to stderr.")
    ] = False,
) -> None:
    """Run real rounds on this machine, and in turn with them a plain float32 sum over the same streaming path.

    One server process (that of [bold]sangam serve[/bold]), processes that hold the clients, mutual TLS between them.
    Payloads are made beforehand; all clients start at one signal. Ends with 0 only if every sum was exact.
    The clients share this machine's cores with the server, and one disk (TMPDIR) for all their journals and, with
    [bold]--durable[/bold], what the server writes down; the same disk is then measured by itself.

    Example: [bold]sangam bench --mode lattice --clients 8 --entries 100000 --dropouts 1[/bold]

    What every number means, and what is not measured: docs/bench.md.
    """
    console = Console(stderr=True)
    with console.status("kernels are compiled (which takes long the first time only), modules imported ..."):
        from aggregator.bench import report, run
        from aggregator.bench.settings import Settings
        from aggregator.local import processes
        from aggregator.local.conduct import conduct
        from aggregator.local.screen import Screen
        from native.warmup import warm

        settings = Settings(mode, clients, entries, bits, dropouts, repeats, client_processes, durable)
        warm()
        processes.nursery(*run.PRELOADED)  # imports in the background, while this process measures
    job = run.run(settings, Screen(console))
    raise typer.Exit(conduct(job, report, console, as_json=as_json))
