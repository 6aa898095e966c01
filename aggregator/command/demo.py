"""`sangam demo`: the main job, for a newcomer to watch and for a script to check."""

import asyncio
import gc
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aggregator.errors import ParameterError

BANNER = """[bold]Sangam[/]: secure aggregation, all on this machine.
{sites} hospitals train one model on real medical data. {rounds} rounds, hospitals
that vanish in each: {dropouts}. The aggregator learns the sum of their updates, and nothing else.
"""
INTERRUPTED = 130  # as a shell reports a process that Ctrl-C ended


def demo(
    sites: Annotated[int, typer.Option(help="Hospitals, each a process of its own: 2 to 100.")] = 10,
    rounds: Annotated[int, typer.Option(help="Rounds of training.")] = 20,
    dropouts: Annotated[int, typer.Option(help="Hospitals that vanish in every round, each at another step.")] = 2,
    seed: Annotated[int, typer.Option(help="Decides the split of the data and who vanishes; never a secret.")] = 1,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="End stdout with one JSON object; tables go to stderr.")
    ] = False,
    out: Annotated[Path, typer.Option(help="A directory for the picture.")] = Path("sangam-demo"),
) -> None:
    """Train on real data across hospitals on this machine, let some of them vanish, and check every sum.

    A throw-away consortium, a real server, one real process per hospital, mutual TLS between them. The data is
    scikit-learn's breast_cancer, split unevenly. Ends with 0 only if every round's sum was exact.

    Example: [bold]sangam demo --sites 6 --rounds 5 --dropouts 1[/bold]
    """
    console = Console(stderr=True)
    console.print(BANNER.format(sites=sites, rounds=rounds, dropouts=dropouts), highlight=False)
    with console.status("kernels are compiled (which takes long the first time only), modules imported ..."):
        from aggregator.local import processes
        from native.warmup import warm

        warm()
        processes.nursery("aggregator.demo.hospital")  # imports in the background, while this process does
        try:
            from aggregator.demo import report, run, screen
        except ModuleNotFoundError as missing:
            raise ParameterError(f"the demo needs {missing.name}: pip install 'sangam[demo]'") from None
    gc.freeze()  # looking through all that was imported once more, at exit, would take a second
    settings = run.Settings(sites, rounds, dropouts, seed, out)
    processes.end_gently()
    try:
        outcome = asyncio.run(run.run(settings, screen.Screen(console)))
    except KeyboardInterrupt:
        console.print("Interrupted: all processes have ended, all keys and records are gone.")
        raise typer.Exit(INTERRUPTED) from None
    report.show(console if as_json else Console(), outcome)
    if as_json:
        typer.echo(report.line(outcome))
    raise typer.Exit(0 if outcome.exact else 1)
